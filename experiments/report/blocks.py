"""The sparse blocks of a model of any kind: their names in the logs, and for people."""

from __future__ import annotations

from ...models import MoeConfig, PalmConfig, TwoTowerConfig
from ..config import ClassificationConfig, Experiment, LanguageConfig

_TOWERS = {"image": "Picture tower", "text": "Word tower"}


def routers(config: Experiment) -> dict[str, MoeConfig]:
    """The routing of each sparse block, by its name among the results, in order."""
    model = config.model
    if isinstance(model, TwoTowerConfig):
        return {name: getattr(model, name.partition("/")[0]).moe for name in model.moe_layers}
    kind = "block" if isinstance(model, PalmConfig) else "encoderblock"
    return {f"{kind}_{index}": model.moe for index in model.moe_layers}


def modalities(config: Experiment) -> tuple[str, ...]:
    """Names of the modalities that the logs may tell apart."""
    if isinstance(config, ClassificationConfig):
        return ("image",)
    return ("text",) if isinstance(config, LanguageConfig) else ("image", "text")


def layer_title(name: str, config: Experiment) -> str:
    """People count layers from one: `encoderblock_1` of 4 is `Layer 2 of 4`."""
    tower, slash, block = name.rpartition("/")
    number = block.rpartition("_")[2]
    if not number.isdigit() or (slash and tower not in _TOWERS):
        return name
    depth = getattr(config.model, tower).depth if slash else config.model.depth
    title = f"ayer {int(number) + 1} of {depth}"
    return f"{_TOWERS[tower]}, l{title}" if slash else f"L{title}"
