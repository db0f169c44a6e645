"""What a training step of each arm takes, in turns, on this machine: runs' own times would tell
of what else was running."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ..config import Experiment
from ..prepare import prepare

_ROUNDS, _STEPS = 9, 3


def time_steps(configs: dict[str, Experiment]) -> dict[str, Any]:
    """Median seconds of a step of each config; rounds of three steps each, in turns.

    Batches are noise of the right shapes with full texts: the fused step takes as long for any.

    Returns:
        {"seconds": by name, "load": the machine's before, "rounds", "cpus"}.
    """
    load = os.getloadavg()[0]
    roads = {name: _Road(config) for name, config in configs.items()}
    for road in roads.values():
        road.steps(2)
    seconds: dict[str, list[float]] = {name: [] for name in roads}
    order: Sequence[str] = list(roads)
    for number in range(_ROUNDS):
        for name in order if number % 2 else reversed(order):
            began = time.perf_counter()
            roads[name].steps(_STEPS)
            seconds[name].append((time.perf_counter() - began) / _STEPS)
    return {
        "seconds": {name: round(statistics.median(found), 5) for name, found in seconds.items()},
        "load": load,
        "rounds": _ROUNDS,
        "cpus": os.cpu_count(),
    }


class _Road:
    """A training that goes on with the same batch."""

    def __init__(self, config: Experiment):
        self.training = prepare(config)
        self.state = self.training.enter(self.training.start())
        blank = self.training.task.blank(config.batch_size)
        draw = np.random.default_rng(0)
        self.batch = {name: _noise(draw, array) for name, array in blank.items()}

    def steps(self, count: int) -> None:
        loss = None
        for _ in range(count):
            self.state, loss = self.training.step(self.state, self.training.put(self.batch))
        jax.block_until_ready((loss, jax.tree.leaves(self.state)))


def _noise(draw: np.random.Generator, array: Any) -> np.ndarray:
    if array.dtype == bool:
        return np.ones(array.shape, bool)
    # Small enough for labels, and for any vocabulary.
    most = 255 if array.dtype == np.uint8 else 9
    return draw.integers(0, most, array.shape).astype(array.dtype)
