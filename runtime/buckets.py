"""Static numbers of rows that experts' nodes are compiled for."""

from __future__ import annotations

import bisect
import dataclasses


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A short ascending ladder; every run of rows takes the first rung that holds it.

    Attributes:
        rungs: the last is the most rows there can be.
    """

    rungs: tuple[int, ...]

    def __call__(self, size: int) -> int:
        """The rung that holds so many rows."""
        return self.rungs[bisect.bisect_left(self.rungs, size)]


def ladder(rows: int, smallest: int = 8) -> Ladder:
    """Rungs for up to `rows` rows: 8, 16, 24, 32, 48, 64, 80, 96, 112, 128, then four an octave.

    An expert's padding costs its share of the products, at most a fifth above 64 rows, and every
    rung a compilation: so many that logarithm and not length counts.
    """
    rungs, step = [smallest], smallest
    while rungs[-1] < rows:
        if rungs[-1] >= 4 * step and rungs[-1] & (rungs[-1] - 1) == 0:
            step = rungs[-1] // 4
        rungs.append(rungs[-1] + step)
    return Ladder((*(r for r in rungs if r < rows), rows))
