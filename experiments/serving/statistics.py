"""How well requests are served: tokens a second, the first token's time, rows in use."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections import deque

from .generation import Generation

# Requests whose times are remembered.
REMEMBERED = 10_000


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of an engine, since it began.

    Attributes:
        requests: that are done and were not cancelled or given up.
        tokens: made.
        seconds: from the first request until now, or until the last token where none is left.
        tokens_per_second: of all requests together.
        first_token: median seconds from a request to its first token.
        first_token_slowest: the same of the slowest in twenty.
        steps: sent.
        occupancy: share of rows that somebody had, over all steps.
        losses: places that failed, or whose islands were lost.
    """

    requests: int
    tokens: int
    seconds: float
    tokens_per_second: float
    first_token: float | None
    first_token_slowest: float | None
    steps: int
    occupancy: float | None
    losses: int


class Counts:
    """What one thread counts, and any may look at.

    Attributes:
        losses: see `Statistics`.
    """

    def __init__(self) -> None:
        self.losses = 0
        self._requests = self._tokens = self._steps = self._taken = self._rows = 0
        self._began = self._last = 0.0
        self._firsts: deque[float] = deque(maxlen=REMEMBERED)

    def token(self, generation: Generation) -> None:
        """One was made."""
        self._last = time.perf_counter()
        self._began = self._began or generation.submitted
        self._tokens += 1
        if generation.made == 1:
            self._firsts.append(self._last - generation.submitted)
        self._requests += generation.done

    def steps(self, many: int, taken: int, rows: int) -> None:
        """So many were sent, with so many rows in use."""
        self._steps += many
        self._taken += many * taken
        self._rows += many * rows

    def now(self) -> Statistics:
        """Until now."""
        seconds = self._last - self._began
        firsts = sorted(self._firsts)
        return Statistics(
            self._requests,
            self._tokens,
            seconds,
            self._tokens / seconds if seconds else 0.0,
            statistics.median(firsts) if firsts else None,
            firsts[min(len(firsts) - 1, len(firsts) * 19 // 20)] if firsts else None,
            self._steps,
            self._taken / self._rows if self._rows else None,
            self.losses,
        )
