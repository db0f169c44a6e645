"""Named experiments: what runs on two cores, and the papers' sizes. Imports no JAX."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .config import Experiment
from .errors import UsageError
from .presets_language import PALM_RUNS
from .presets_limoe import LIMOE
from .presets_towers import TOWERS
from .presets_vision import VISION
from .suggest import unknown


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named experiment.

    Attributes:
        config: all of it.
        description: one line.
    """

    config: Experiment
    description: str


def dense_twin(config: Any) -> Any:
    """The same experiment without sparse blocks: same code, same cost per token at K=1."""
    model = config.model
    if hasattr(model, "moe"):
        return dataclasses.replace(config, model=_dense(model))
    towers = {"image": _dense(model.image), "text": _dense(model.text)}
    return dataclasses.replace(config, model=dataclasses.replace(model, **towers))


def _dense(model: Any) -> Any:
    moe = dataclasses.replace(model.moe, placement="none")
    return dataclasses.replace(model, moe=moe)


_PRESETS: dict[str, Preset] = {}
for _name, (_config, _description) in (LIMOE | TOWERS | VISION | PALM_RUNS).items():
    _PRESETS[_name] = Preset(_config, _description)
    _twin = dense_twin(_config)
    if all(_twin != entry.config for entry in _PRESETS.values()):
        _PRESETS[f"{_name}_dense"] = Preset(_twin, f"the dense twin of {_name}")

PRESETS: Mapping[str, Preset] = MappingProxyType(_PRESETS)


def preset(name: str) -> Any:
    """The config of a preset: an `ExperimentConfig`, or another kind of `Experiment`.

    Raises:
        UsageError: no such preset; the nearest one is named.

    Examples:
        >>> preset("limoe_b16").model.width
        768
        >>> preset("limoe_b16_dense").model.moe_layers
        ()
    """
    if name not in PRESETS:
        raise UsageError(unknown("preset", name, PRESETS))
    return PRESETS[name].config
