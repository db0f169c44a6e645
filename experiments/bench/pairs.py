"""Two programs timed in turns, so that a busy moment of the machine falls on both."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Milliseconds of two programs, call by call.

    Attributes:
        first, second: of the i-th pair.
    """

    first: list[float]
    second: list[float]

    @property
    def first_median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.first)

    @property
    def second_median(self) -> float:
        """Milliseconds."""
        return statistics.median(self.second)

    @property
    def ratio(self) -> float:
        """Median over pairs of first over second."""
        return statistics.median(self._ratios)

    @property
    def fastest(self) -> float:
        """The fastest call of the first over the fastest of the second, nothing disturbing them."""
        return min(self.first) / min(self.second)

    @property
    def quartiles(self) -> list[float]:
        """Of the pairs' ratios."""
        return [float(q) for q in np.quantile(self._ratios, (0.25, 0.75))]

    @property
    def _ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.first, self.second, strict=True)]


def time_pairs(first: Callable[[], Any], second: Callable[[], Any], repeats: int) -> Pairs:
    """Time `repeats` adjacent pairs, every other one the other way round.

    Only two programs take turns: with more, each finds the caches full of the others' arrays.
    """
    for program in (first, second):  # compiled already; touches its memory
        jax.block_until_ready(program())
        jax.block_until_ready(program())
    times: dict[bool, list[float]] = {False: [], True: []}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for i in range(repeats):
            for is_second in (False, True) if i % 2 else (True, False):
                program = second if is_second else first
                begin = time.perf_counter()
                jax.block_until_ready(program())
                times[is_second].append(1e3 * (time.perf_counter() - begin))
    finally:
        if enabled:
            gc.enable()
    return Pairs(times[False], times[True])
