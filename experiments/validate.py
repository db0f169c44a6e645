"""Checks of a whole config, before anything is compiled; imports neither JAX nor Flax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from .config import (
    ClassificationConfig,
    ContrastiveConfig,
    Experiment,
    ExperimentConfig,
    LanguageConfig,
)
from .config_files import choices, field_types, flatten, to_dict
from .errors import ConfigError
from .execution import training_problems
from .islands.problems import island_problems
from .suggest import nearest
from .validate_model import moe_problems, shape_problems, tokens_of, towers
from .validate_ranges import range_problems

_Config = TypeVar("_Config", bound=Experiment)


def problems_of(config: Experiment, devices: int | None = None) -> list[str]:
    """Every problem of a config, one sentence each: the value, the expectation, the mend.

    Args:
        config: the whole experiment.
        devices: local devices that are there; None where that is not known yet (asking
            would import JAX), which leaves out only the checks against it.
    """
    found = list(_choices(config))
    if found:
        # The other checks compute with these values.
        return found
    ranges = range_problems(flatten(to_dict(config)))
    found += ranges.values()
    if not any(key.startswith("model.") for key in ranges):
        for at, model in towers(config.model).items():
            mine = [*shape_problems(model), *moe_problems(model, config.loss)]
            found += [problem.replace("model.", f"{at}.") for problem in mine]
    if not ranges.keys() & {"batch_size", "loss.chunks", "devices"}:
        found += _batch(config, devices)
        if not found:
            found += _groups(config)
    return [*found, *_execution(config), *_data(config)]


def check(config: _Config, devices: int | None = None) -> _Config:
    """The config itself, once it is known to hold together.

    Raises:
        ConfigError: naming every problem at once.
    """
    found = problems_of(config, devices)
    if found:
        raise ConfigError(found)
    return config


# Data sets that need no data_dir; the last is built first, and not trained on.
SHIPPED_DATA = ("emoji_art", "emoji_scenes", "openclipart")
_TRAINED_ON = SHIPPED_DATA[:2]


def _choices(config: Experiment) -> Iterator[str]:
    values = flatten(to_dict(config))
    for key, hint in field_types(type(config)).items():
        allowed = choices(hint)
        if not allowed:
            continue
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if str(value) not in allowed:
                found = nearest(str(value), allowed)
                hint_text = f"did you mean '{found}'? " if found else ""
                yield f"{key} is '{value}': {hint_text}one of {', '.join(allowed)} is expected"


def _batch(config: Experiment, present: int | None) -> Iterator[str]:
    batch, chunks, wanted = config.batch_size, config.loss.chunks, config.devices
    if present is not None and wanted > present:
        yield (
            f"devices is {wanted}, but {present} are here; choose 1 to {present}, or 0 for all "
            "(XLA_FLAGS=--xla_force_host_platform_device_count=N makes virtual CPU devices)"
        )
        return
    devices = wanted or present or 1
    if batch % chunks:
        yield (
            f"batch_size is {batch}, which does not divide into loss.chunks {chunks}; "
            f"the nearest that does: {_round(batch, chunks)}"
        )
    if batch % devices:
        yield (
            f"batch_size is {batch}, which does not divide over {devices} devices; "
            f"the nearest that does: {_round(batch, devices)}"
        )
    elif batch % chunks == 0 and (batch // chunks) % devices:
        yield (
            f"batch_size {batch} in loss.chunks {chunks} leaves {batch // chunks} pairs a chunk, "
            f"which do not divide over {devices} devices; the nearest batch_size that does: "
            f"{_round(batch, chunks * devices)}"
        )


def _groups(config: Experiment) -> Iterator[str]:
    """Chunks or islands that would cut a routing group, which is then another."""
    batch = config.batch_size
    cuts = {"loss.chunks": config.loss.chunks, "islands": config.islands or 1}
    for at, model in towers(config.model).items():
        if model.moe.placement == "none":
            continue
        wished = max(1, model.moe.group_size // tokens_of(model))
        each = next(n for n in range(min(wished, batch), 0, -1) if batch % n == 0)
        for key, cut in cuts.items():
            if batch % cut == 0 and (batch // each) % cut:
                yield (
                    f"{key} is {cut}, but {batch // each} routing groups of {each} examples "
                    f"do not divide into so many; lower {at}.moe.group_size from "
                    f"{model.moe.group_size} to {tokens_of(model) * (batch // cut)} or less, or "
                    f"{key}"
                )


def _execution(config: Experiment) -> Iterator[str]:
    if config.islands is not None:
        yield from island_problems(config)
    if config.execution != "fused":
        yield from training_problems(config.model)
    if config.expert_updates == "sparse" and config.execution != "pathways":
        yield (
            f"expert_updates is 'sparse' with execution {config.execution!r}, whose updates are of "
            "all experts; set --execution pathways, or --expert-updates exact"
        )


def _data(config: Experiment) -> Iterator[str]:
    if isinstance(config, ContrastiveConfig):
        yield from _pairs(config)
    elif isinstance(config, ClassificationConfig):
        yield from _images(config)
    elif isinstance(config, LanguageConfig):
        yield from _found(config.data.name, config.data.data_dir, ("emoji_art",))


def _pairs(config: ContrastiveConfig) -> Iterator[str]:
    if config.data.text_length != config.model.text_length:
        key = (
            "model.text_length"
            if isinstance(config, ExperimentConfig)
            else "model.text.text_length"
        )
        yield (
            f"data.text_length is {config.data.text_length} but {key} is "
            f"{config.model.text_length}; they must be equal: set both"
        )
    yield from _found(config.data.name, config.data.data_dir, _TRAINED_ON)
    if config.data.scenes_share > 0 and config.data.name != "emoji_art":
        yield (
            f"data.scenes_share is {config.data.scenes_share:g} with data.name "
            f"'{config.data.name}'; scenes are mixed into emoji_art only: set it to 0"
        )


def _images(config: ClassificationConfig) -> Iterator[str]:
    if config.model.num_classes < 2:
        yield (
            f"model.num_classes is {config.model.num_classes}; a classifier needs 2 or more to "
            "choose from"
        )
    side = config.model.image_size
    if config.data.shift >= side > 0:
        yield (
            f"data.shift is {config.data.shift} pixels, which moves images of model.image_size "
            f"{side} out of sight; choose at most {side - 1}, or 0 for no shift"
        )
    yield from _found(config.data.name, config.data.data_dir, ("fashion_mnist",))


def _found(name: str, data_dir: str | None, known: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a data set that is not known and has no folder."""
    if data_dir is None and name not in known:
        found = nearest(name, known)
        yield (
            f"data.name is '{name}', which does not ship with byways"
            + (f"; did you mean '{found}'?" if found else ";")
            + f" shipped: {', '.join(known)}; for any other TFDS data set say in "
            "data.data_dir where it is prepared"
        )


def _round(value: int, step: int) -> int:
    return max(step, round(value / step) * step)
