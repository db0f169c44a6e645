"""Which of two executions is faster, found by doing the work itself with each in turn."""

from __future__ import annotations

import dataclasses
import statistics

# Steps of each that are not timed, since they compile, and those that are. By pathways programs
# for other numbers of tokens are compiled in later steps too; the median overlooks them.
_WARM = {"fused": 2, "pathways": 4}
_TIMED = 3
# Times the fastest's median that is close to it.
_CLOSE = 1.2


@dataclasses.dataclass
class Trial:
    """What is known of an execution.

    Attributes:
        steps: done.
        seconds: of each step that was timed.
    """

    steps: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)


class Chooser:
    """Which execution does the next step: `fused`, `pathways` and others that are added, in turn,
    then the fastest of them. Those that come close to the fastest are timed some more.

    Examples:
        >>> chooser, found = Chooser({"fused": 1, "pathways": 1}, timed=1), []
        >>> for _ in range(6):
        ...     found.append(chooser.now)
        ...     chooser.saw(0.2 if chooser.now == "fused" else 0.1)
        >>> found
        ['fused', 'fused', 'pathways', 'pathways', 'pathways', 'pathways']
    """

    def __init__(self, warm: dict[str, int] | None = None, timed: int = _TIMED):
        """Args:
        warm: the executions, and the calls of each that are not timed.
        timed: calls of each that are; of close ones, four times as many.
        """
        self._warm, self._timed = dict(warm or _WARM), timed
        self.trials = {name: Trial() for name in self._warm}
        self._last = ""

    def add(self, name: str, warm: int) -> None:
        """One more to try."""
        self._warm[name], self.trials[name] = warm, Trial()

    @property
    def decided(self) -> bool:
        """Whether all were timed."""
        return self._next() is None

    @property
    def now(self) -> str:
        """The execution of the next step."""
        return self._next() or self._fastest()

    def saw(self, seconds: float) -> None:
        """Takes down how long the step of `now` took."""
        name = self._next()
        if name is None:
            return
        trial = self.trials[name]
        # The first call after another's finds nothing of its own in the caches.
        returned = bool(trial.seconds) and self._last != name
        self._last = name
        trial.steps += 1
        if trial.steps > self._warm[name] and not returned:
            trial.seconds.append(seconds)

    def _next(self) -> str | None:
        for name, trial in self.trials.items():
            if len(trial.seconds) < self._timed:
                return name
        best = self.trials[self._fastest()].median
        close = [t for t in self.trials.values() if t.median <= _CLOSE * best]
        if len(close) > 1:
            for name, trial in self.trials.items():
                if trial in close and len(trial.seconds) < 4 * self._timed:
                    return name
        return None

    def _fastest(self) -> str:
        return min(self.trials, key=lambda name: self.trials[name].median)
