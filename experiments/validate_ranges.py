"""The range of every number in a config."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_AT_LEAST_ONE = (
    *("batch_size", "steps", "log_every", "loss.chunks", "data.text_length", "islands"),
    "optimizer.ns_steps",
    *("model.head_size", "model.max_length"),
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
    *("model.num_classes", "model.z_loss", "data.shift", "loss.label_smoothing"),
    *("data.validation_share",),
    *("optimizer.warmup", "optimizer.final_lr", "optimizer.weight_decay", "optimizer.clip"),
    *("data.augment.shift", "data.augment.zoom", "data.augment.rotate", "data.augment.shear"),
    *("data.augment.colour", "data.augment.background", "data.scenes_share", "data.label_share"),
)
_ABOVE_ZERO = (
    *("optimizer.lr", "optimizer.adam_lr", "model.initial_temperature", "model.rope_base"),
    *("model.max_scale", "model.epsilon"),
    *("model.moe.capacity_factor", "model.moe.eval_capacity_factor"),
)
_SHARES = (
    *("data.scenes_share", "data.label_share", "optimizer.final_lr"),
    *("data.augment.colour", "data.augment.background"),
    *("loss.label_smoothing", "data.validation_share"),
)
# JAX keeps 32 bits of a seed: a larger one would begin with the weights of a smaller.
_SEEDS = 2**32
_DECAYS = ("optimizer.b1", "optimizer.b2")
# What stands for no limit, where there is such a value.
_NO_LIMIT = {
    "optimizer.clip": ", or 0 for no clipping,",
    "model.moe.capacity_factor": ", or None for no limit,",
    "model.moe.eval_capacity_factor": ", or None for no limit,",
}


def range_problems(values: Mapping[str, Any]) -> dict[str, str]:
    """Every number out of its range: its key and what is wrong.

    Infinity and NaN are out of every range; nor does JSON, and so no config file, have them.

    Args:
        values: of a config, by dotted key; towers of a model are checked as a model alone.
    """
    found = {}
    for key, value in values.items():
        wrong = _wrong(re.sub(r"^model\.(image|text)\.", "model.", key), value)
        if wrong:
            found[key] = f"{key} is {value}; {wrong} is expected"
    return found


def _wrong(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key in _AT_LEAST_ONE and not value >= 1:
        return "at least 1"
    if key in _NOT_NEGATIVE and not value >= 0:
        return "0 or more"
    if key == "seed" and value >= _SEEDS:
        return "less than 2**32"
    if key in _ABOVE_ZERO and not value > 0:
        return "a number above 0"
    if key in _SHARES and value > 1:
        return "a share from 0 to 1"
    if key in _DECAYS and not 0 <= value < 1:
        return "a decay of at least 0 and below 1"
    if isinstance(value, float) and not math.isfinite(value):
        return f"a finite number{_NO_LIMIT.get(key, '')}"
    return ""
