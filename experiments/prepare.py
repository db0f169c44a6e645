"""The training step of a config, by its execution."""

from __future__ import annotations

from .config import Experiment
from .train_state import Training


def prepare(config: Experiment) -> Training:
    """What a run needs on its devices; compiles nothing yet.

    Raises:
        ConfigError: as `train_state.prepare` and `prepare_pathways`.
    """
    if config.execution == "pathways":
        from .pathways_step import prepare_pathways

        return prepare_pathways(config)
    if config.execution == "auto":
        from .auto_step import prepare_auto

        return prepare_auto(config)
    from .train_state import prepare as prepare_fused

    return prepare_fused(config)
