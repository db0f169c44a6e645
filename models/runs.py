"""Which blocks of a stack are alike, so that one traced body serves them all; imports no JAX."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence

LONGEST_PERIOD = 8


@dataclasses.dataclass(frozen=True)
class Run:
    """Blocks first, first+1, …, whose kinds repeat every `period`, `count` times.

    Attributes:
        first: the 0-indexed block that it begins at.
        period: blocks of one turn.
        count: turns.
    """

    first: int
    period: int
    count: int

    def block(self, turn: int, place: int) -> int:
        """The block at that place of that turn."""
        return self.first + turn * self.period + place

    def name(self, prefix: str) -> str:
        """Of its parameters when stacked: `encoderblocks_0_11`, with its first and last block."""
        return f"{prefix}s_{self.first}_{self.block(self.count, 0) - 1}"


def find_runs(kinds: Sequence[Hashable]) -> tuple[Run, ...]:
    """Cuts a stack into runs, with as few blocks to trace as can be, and then as few runs.

    Every second block sparse is one run of pairs; a dense half before a sparse one is two.

    Args:
        kinds: of each block; those that compare equal have the same parameters and code.

    Examples:
        >>> find_runs("dsdsds")
        (Run(first=0, period=2, count=3),)
        >>> find_runs("ddddsds")
        (Run(first=0, period=1, count=3), Run(first=3, period=2, count=2))
    """
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    return _find_runs(tuple(numbers[kind] for kind in kinds))


@functools.lru_cache
def _find_runs(kinds: tuple[int, ...]) -> tuple[Run, ...]:
    depth = len(kinds)
    # From the end: (blocks to trace, runs) of the rest of the stack, and its runs.
    best: list[tuple[tuple[int, int], tuple[Run, ...]]] = [((0, 0), ())] * (depth + 1)
    for first in reversed(range(depth)):
        found = []
        for period in range(1, min(LONGEST_PERIOD, depth - first) + 1):
            turn = kinds[first : first + period]
            count = 1
            while True:
                (traced, runs), rest = best[first + period * count]
                cost = (traced + period, runs + 1)
                found.append((cost, (Run(first, period, count), *rest)))
                begin = first + period * count
                if kinds[begin : begin + period] != turn:
                    break
                count += 1
        # Among equals the run that takes in most blocks, so that a remainder stands at the end.
        best[first] = min(found, key=lambda it: (it[0], -it[1][0].period * it[1][0].count))
    return best[0][1]
