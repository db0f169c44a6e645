"""The training step of a config, by its execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import Experiment
from .train_state import Training

if TYPE_CHECKING:
    from .islands.hosts import Islands


def prepare(config: Experiment, islands: Islands | None = None) -> Training:
    """What a run needs on its devices; compiles nothing yet.

    Args:
        config: whole and sound.
        islands: where it trains, if `config.islands` asks for them.

    Raises:
        ConfigError: as `train_state.prepare` and `prepare_pathways`.
    """
    if islands is not None:
        from .islands.step import prepare_islands

        return prepare_islands(config, islands)
    if config.execution == "pathways":
        from .pathways_step import prepare_pathways

        return prepare_pathways(config)
    if config.execution == "auto":
        from .auto_step import prepare_auto

        return prepare_auto(config)
    from .train_state import prepare as prepare_fused

    return prepare_fused(config)
