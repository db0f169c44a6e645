"""A V-MoE's score under other capacities, the surest tokens first or in order, and the time."""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from ....datasets import batches_of_rows, load_images
from ...evaluation.vmoe_scores import eval_settings, evaluate_settings, vmoe_forward
from ...library import read_run

FACTORS = (1.05, 0.5, 0.25, 0.1)
_BATCH = 256
_ROUNDS = 15


def probe(folder: Path) -> dict[str, float]:
    """Top-1 on the shuffled test images: `dropless`; `C.priority` and `C.order` for each C of
    `FACTORS`; `trained`, at the capacity and in the order of training; and `time_ratio`,
    the forward pass dropless over C = 0.5 by priority, median of 15 rounds in turns.
    """
    run = read_run(folder)
    config = run.config.model
    data = load_images(run.config.data, config.image_size)
    order = np.random.default_rng(0).permutation(data.splits["test"])
    # Whole batches: padding would leave slots free.
    order = order[: len(order) // _BATCH * _BATCH]

    def batches():
        return batches_of_rows(data, order, _BATCH, config.image_size)

    def top(priority: bool, factors: tuple[float | None, ...]) -> list[float]:
        moe = dataclasses.replace(config.moe, batch_priority=priority)
        model = dataclasses.replace(config, moe=moe)
        scored = evaluate_settings(model, run.params, batches, [(None, f) for f in factors])
        return [score.scores.summary()["top1"] for score in scored]

    found = {"dropless": top(True, (None,))[0]}
    for name, priority in (("priority", True), ("order", False)):
        for factor, score in zip(FACTORS, top(priority, FACTORS), strict=True):
            found[f"{factor:g}.{name}"] = score
    moe = config.moe
    found["trained"] = top(moe.batch_priority, (moe.capacity_factor,))[0]
    found["time_ratio"] = _time_ratio(config, run.params, next(iter(batches())))
    return found


def _time_ratio(config, params, batch) -> float:
    passes = []
    for factor in (None, 0.5):
        moe = dataclasses.replace(eval_settings(config.moe, None, factor), batch_priority=True)
        run = vmoe_forward(dataclasses.replace(config, moe=moe), params)
        jax.block_until_ready(run(batch))
        passes.append(run)
    ratios = []
    for _ in range(_ROUNDS):
        seconds = []
        for run in passes:
            began = time.perf_counter()
            jax.block_until_ready(run(batch))
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
