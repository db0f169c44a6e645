"""Several roads to one result timed in turns, so that a busy moment falls on all of them."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Seconds of each road, round by round.

    Attributes:
        seconds: by the road's name; the i-th of each are of one round.
    """

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """Median over rounds of the time of one road over that of another."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def quartiles(self, name: str, other: str) -> list[float]:
        """Of those ratios."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        ratios = [a / b for a, b in pairs]
        if len(ratios) < 2:
            return ratios * 2
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return [low, high]

    def difference(self, name: str, other: str) -> float:
        """Median over rounds of one road's seconds less another's."""
        pairs = zip(self.seconds[name], self.seconds[other], strict=True)
        return statistics.median(a - b for a, b in pairs)


def time_rounds(roads: Mapping[str, Callable[[], Any]], repeats: int) -> Rounds:
    """Times each road once a round; every other round goes the other way.

    Args:
        roads: each does its whole work, and waits for it, before it returns.
        repeats: rounds.
    """
    for road in roads.values():  # compiles, and fills caches
        road()
        road()
    seconds: dict[str, list[float]] = {name: [] for name in roads}
    order = list(roads)
    enabled = gc.isenabled()
    gc.disable()
    try:
        for _ in range(repeats):
            for name in order:
                begin = time.perf_counter()
                roads[name]()
                seconds[name].append(time.perf_counter() - begin)
            order.reverse()
            gc.collect(0)
    finally:
        if enabled:
            gc.enable()
    return Rounds(seconds)
