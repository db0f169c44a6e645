"""Checks of a whole config, before anything is compiled; imports neither JAX nor Flax."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..models.config import ModelConfig
from .config import ExperimentConfig
from .config_files import choices, field_types, flatten, to_dict
from .errors import ConfigError
from .suggest import nearest


def problems_of(config: ExperimentConfig, devices: int | None = None) -> list[str]:
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
    ranges = dict(_ranges(config))
    found += ranges.values()
    if not any(key.startswith("model.") for key in ranges):
        found += _model(config.model)
    if not ranges.keys() & {"batch_size", "loss.chunks", "devices"}:
        found += _batch(config, devices)
    found += [*_moe(config), *_data(config)]
    return found


def check(config: ExperimentConfig, devices: int | None = None) -> ExperimentConfig:
    """The config itself, once it is known to hold together.

    Raises:
        ConfigError: naming every problem at once.
    """
    found = problems_of(config, devices)
    if found:
        raise ConfigError(found)
    return config


# Data sets that need no data_dir.
SHIPPED_DATA = ("emoji_art", "emoji_scenes")

_AT_LEAST_ONE = (
    *("batch_size", "steps", "log_every", "loss.chunks", "data.text_length"),
    "optimizer.ns_steps",
    *("checkpoint.every", "checkpoint.keep_last"),
    *("model.image_size", "model.patch_size", "model.width", "model.hidden", "model.depth"),
    *("model.heads", "model.text_length", "model.vocab_size", "model.embed_dim"),
    *("model.moe.n", "model.moe.num_experts", "model.moe.selected", "model.moe.group_size"),
    *("model.moe.capacity_multiple_of", "model.moe.granularity", "model.moe.soft_slots"),
)
_NOT_NEGATIVE = (
    *("seed", "eval_every", "devices", "data.workers", "checkpoint.keep_best"),
    *("loss.auxiliary", "loss.threshold_image", "loss.threshold_text", "model.moe.noise_std"),
    *("model.moe.bias_rate", "model.moe.shared_experts"),
    *("optimizer.warmup", "optimizer.final_lr", "optimizer.weight_decay", "optimizer.clip"),
    *("data.augment.shift", "data.augment.zoom", "data.augment.rotate", "data.augment.shear"),
    *("data.augment.colour", "data.augment.background", "data.scenes_share", "data.label_share"),
)
_ABOVE_ZERO = (
    *("optimizer.lr", "optimizer.adam_lr", "model.initial_temperature"),
    *("model.moe.capacity_factor", "model.moe.eval_capacity_factor"),
)
_SHARES = (
    *("data.scenes_share", "data.label_share", "optimizer.final_lr"),
    *("data.augment.colour", "data.augment.background"),
)
_DECAYS = ("optimizer.b1", "optimizer.b2")


def _choices(config: ExperimentConfig) -> Iterator[str]:
    values = flatten(to_dict(config))
    for key, hint in field_types().items():
        allowed = choices(hint)
        if not allowed:
            continue
        for value in values[key] if isinstance(values[key], list) else [values[key]]:
            if str(value) not in allowed:
                found = nearest(str(value), allowed)
                hint_text = f"did you mean '{found}'? " if found else ""
                yield f"{key} is '{value}': {hint_text}one of {', '.join(allowed)} is expected"


def _ranges(config: ExperimentConfig) -> Iterator[tuple[str, str]]:
    """Every number out of its range: its key and what is wrong (NaN is out of every range)."""
    values = flatten(to_dict(config))
    for key in _AT_LEAST_ONE:
        if not values[key] >= 1:
            yield key, f"{key} is {values[key]}; at least 1 is expected"
    for key in _NOT_NEGATIVE:
        if not values[key] >= 0:
            yield key, f"{key} is {values[key]}; 0 or more is expected"
    for key in _ABOVE_ZERO:
        if values[key] is not None and not values[key] > 0:
            yield key, f"{key} is {values[key]}; a number above 0 is expected"
    for key in _SHARES:
        if values[key] > 1:
            yield key, f"{key} is {values[key]}; a share from 0 to 1 is expected"
    for key in _DECAYS:
        if not 0 <= values[key] < 1:
            yield key, f"{key} is {values[key]}; a decay of at least 0 and below 1 is expected"


def _model(model: ModelConfig) -> Iterator[str]:
    if model.image_size % model.patch_size:
        fitting = [p for p in range(1, model.image_size + 1) if model.image_size % p == 0]
        yield (
            f"model.image_size is {model.image_size}, which does not divide into patches of "
            f"model.patch_size {model.patch_size}; patch sizes that fit: {_few(fitting)}"
        )
    if model.width % model.heads:
        fitting = [h for h in range(1, model.width + 1) if model.width % h == 0]
        yield (
            f"model.width is {model.width}, which does not divide into model.heads "
            f"{model.heads}; numbers of heads that fit: {_few(fitting)}"
        )


def _moe(config: ExperimentConfig) -> Iterator[str]:
    model, moe, loss = config.model, config.model.moe, config.loss
    if moe.placement == "none":
        return
    if moe.selected > moe.num_experts:
        yield (
            f"model.moe.selected (K) is {moe.selected}, more than the model.moe.num_experts (E) "
            f"{moe.num_experts} there are; choose at most {moe.num_experts}"
        )
    if moe.placement == "every" and moe.n > model.depth:
        yield (
            f"model.moe.n is {moe.n} with placement 'every', but the stack has only model.depth "
            f"{model.depth} blocks, so none would be sparse; choose n from 1 to {model.depth}, "
            "or placement 'none' for the dense twin"
        )
    if moe.placement == "last" and moe.n > model.depth // 2:
        yield (
            f"model.moe.n is {moe.n} with placement 'last', but model.depth {model.depth} has "
            f"only {model.depth // 2} odd blocks; choose n from 1 to {model.depth // 2}"
        )
    yield from _routing(config)
    for modality in ("image", "text"):
        threshold = getattr(loss, f"threshold_{modality}")
        if threshold > moe.routed_experts:
            yield (
                f"loss.threshold_{modality} asks for {threshold:g} experts, more than the "
                f"model.moe.num_experts {moe.routed_experts} there are, so the loss could never "
                f"vanish; choose at most {moe.routed_experts}, or 0 to switch it off"
            )
        elif 0 < threshold < 1:
            yield (
                f"loss.threshold_{modality} is {threshold:g}; it counts experts (the exp of the "
                "paper's tau): choose 1 or more, or 0 to switch it off"
            )
    if loss.load and moe.noise_std == 0 and moe.router != "soft":
        yield (
            "loss.load is on but model.moe.noise_std is 0: the load loss is a probability under "
            "the router's noise; switch it off (--loss.no-load) or give noise"
        )


def _routing(config: ExperimentConfig) -> Iterator[str]:
    """Routers and options that do not go together."""
    moe, loss = config.model.moe, config.loss
    if moe.eval_selected is not None and not 1 <= moe.eval_selected <= moe.num_experts:
        yield (
            f"model.moe.eval_selected is {moe.eval_selected}; choose 1 to model.moe.num_experts "
            f"{moe.num_experts}, or null for the training's"
        )
    if config.model.hidden % moe.granularity:
        yield (
            f"model.hidden {config.model.hidden} does not divide into model.moe.granularity "
            f"{moe.granularity} parts"
        )
    if moe.router == "switch" and (moe.chosen, moe.eval_chosen) != (1, 1):
        yield (
            f"model.moe.router 'switch' chooses one expert, not {moe.chosen} in training and "
            f"{moe.eval_chosen} at evaluation (selected times granularity); choose 'gshard' or "
            "'top_k' for more"
        )
    if moe.capacity_factor is None and moe.router == "expert_choice":
        yield (
            "model.moe.capacity_factor is null (dropless), but with router 'expert_choice' an "
            "expert takes as many tokens as it has slots; give a number above 0"
        )
    if moe.dispatcher == "expert_parallel":
        yield (
            "model.moe.dispatcher is 'expert_parallel', which needs a mesh with an axis `expert`, "
            "and `byways train` shares out the batch alone; choose 'index', 'blocked' or "
            "'grouped' (docs/dispatchers.md shows the layer under a mesh)"
        )
    if moe.renormalize is not None and moe.router not in ("top_k", "sigmoid"):
        yield (
            f"model.moe.renormalize is {moe.renormalize}, but router {moe.router!r} has gates of "
            "its own; choose 'top_k' or 'sigmoid', or renormalize None"
        )
    if moe.renormalize and moe.chosen == 1:
        yield (
            "model.moe.renormalize is on with one expert per token, whose gate would always be 1 "
            "and teach the router nothing; choose more experts, or renormalize None"
        )
    if moe.bias != "none" and moe.router not in ("top_k", "sigmoid"):
        yield (
            f"model.moe.bias is {moe.bias!r}, which router {moe.router!r} does not heed; choose "
            "'top_k' or 'sigmoid', or bias 'none'"
        )
    if moe.task != "none" and moe.router in ("hash", "random", "soft"):
        yield (
            f"model.moe.task is {moe.task!r}, which router {moe.router!r} does not heed; choose "
            "another router, or task 'none'"
        )
    if loss.load and moe.router in ("hash", "random", "expert_choice"):
        yield (
            f"loss.load is on, but router {moe.router!r} has no load to predict; switch it off "
            "(--loss.no-load)"
        )


def _batch(config: ExperimentConfig, present: int | None) -> Iterator[str]:
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


def _data(config: ExperimentConfig) -> Iterator[str]:
    if config.data.text_length != config.model.text_length:
        yield (
            f"data.text_length is {config.data.text_length} but model.text_length is "
            f"{config.model.text_length}; they must be equal: set both"
        )
    if config.data.data_dir is None and config.data.name not in SHIPPED_DATA:
        found = nearest(config.data.name, SHIPPED_DATA)
        yield (
            f"data.name is '{config.data.name}', which does not ship with byways"
            + (f"; did you mean '{found}'?" if found else ";")
            + f" shipped: {', '.join(SHIPPED_DATA)}; for any other TFDS data set say in "
            "data.data_dir where it is prepared"
        )
    if config.data.scenes_share > 0 and config.data.name != "emoji_art":
        yield (
            f"data.scenes_share is {config.data.scenes_share:g} with data.name "
            f"'{config.data.name}'; scenes are mixed into emoji_art only: set it to 0"
        )


def _round(value: int, step: int) -> int:
    return max(step, round(value / step) * step)


def _few(values: Sequence[int]) -> str:
    shown = ", ".join(str(value) for value in values[:12])
    return shown + (", …" if len(values) > 12 else "")
