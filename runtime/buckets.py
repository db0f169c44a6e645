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
    """Rungs for up to `rows` rows: every 8 to 64, every 16 to 256, every 32 to 512, and so on.

    That is four an octave at first, eight from 128 and sixteen from 1,024 on: where runs are long
    nothing counts but their products, and there a rung too high is at most a ninth of them, then a
    seventeenth. Every rung is a compilation, so many that logarithm and not length counts.
    """
    rungs, step = [smallest], smallest
    while rungs[-1] < rows:
        last = rungs[-1]
        if last >= 4 * smallest and last & (last - 1) == 0:
            step = last // (4 if last < 128 else 8 if last < 1024 else 16)
        rungs.append(last + step)
    return Ladder((*(r for r in rungs if r < rows), rows))
