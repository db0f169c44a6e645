"""The same runs shorter, to see that all works, or larger, where an accelerator can be had."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ...models import TwoTowerConfig
from ..config import Experiment

Scale = Literal["quick", "full", "large"]

# An eighth of the steps and two seeds: it decides little.
_SHORTER = 8
QUICK_SEEDS = 2

# Eight times the FLOPs of a token, twice the experts, four times the batch, as many epochs more.
_LARGE = {"width": 256, "hidden": 512, "heads": 8, "depth": 8}
_EXPERTS, _BATCH = 16, 4


def scaled(config: Experiment, scale: Scale) -> Experiment:
    """An arm's config at another scale; at `full` it is as it is.

    At `large` what is equal between arms stays equal: tokens of a group grow with the batch, and
    Soft MoE keeps as many slots as there are tokens.
    """
    if scale == "quick":
        steps = max(10, config.steps // _SHORTER)
        optimizer = dataclasses.replace(config.optimizer, warmup=max(1, steps // 8))
        every = min(steps, config.eval_every)
        changes: dict[str, Any] = {"steps": steps, "eval_every": every, "log_every": 5}
        return dataclasses.replace(config, optimizer=optimizer, **changes)
    if scale == "large":
        model = _larger(config.model)
        steps = 4 * config.steps
        optimizer = dataclasses.replace(config.optimizer, warmup=4 * config.optimizer.warmup)
        return dataclasses.replace(
            config,
            model=model,
            optimizer=optimizer,
            batch_size=_BATCH * config.batch_size,
            steps=steps,
            eval_every=4 * config.eval_every,
        )
    return config


def _larger(model: Any) -> Any:
    if isinstance(model, TwoTowerConfig):
        towers = {name: _larger(getattr(model, name)) for name in ("image", "text")}
        return dataclasses.replace(model, **towers)
    moe = model.moe
    if moe.router == "soft":
        slots = max(1, moe.soft_slots * moe.num_experts // _EXPERTS)
        moe = dataclasses.replace(moe, num_experts=_EXPERTS, soft_slots=slots)
    else:
        moe = dataclasses.replace(moe, num_experts=_EXPERTS, group_size=_BATCH * moe.group_size)
    return dataclasses.replace(model, moe=moe, **_LARGE)
