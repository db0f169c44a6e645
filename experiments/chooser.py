"""Which of two executions is faster, found by doing the work itself with each in turn."""

from __future__ import annotations

import dataclasses
import statistics

# Steps of each that are not timed, since they compile, and those that are. By pathways programs
# for other numbers of tokens are compiled in later steps too; the median overlooks them.
_WARM = {"fused": 2, "pathways": 4}
_TIMED = 3


@dataclasses.dataclass
class Trial:
    """What is known of an execution.

    Attributes:
        steps: done.
        seconds: of each step that was timed.
    """

    steps: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)


class Chooser:
    """Which execution does the next step: `fused`, `pathways` and others that are added, in turn,
    then the fastest of them.

    Examples:
        >>> chooser, found = Chooser({"fused": 1, "pathways": 1}, timed=1), []
        >>> for _ in range(6):
        ...     found.append(chooser.now)
        ...     chooser.saw(0.2 if chooser.now == "fused" else 0.1)
        >>> found
        ['fused', 'fused', 'pathways', 'pathways', 'pathways', 'pathways']
    """

    def __init__(self, warm: dict[str, int] | None = None, timed: int = _TIMED):
        self._warm, self._timed = dict(warm or _WARM), timed
        self.trials = {name: Trial() for name in self._warm}

    def add(self, name: str, warm: int) -> None:
        """One more to try."""
        self._warm[name], self.trials[name] = warm, Trial()

    @property
    def decided(self) -> bool:
        """Whether all were timed."""
        return all(len(trial.seconds) == self._timed for trial in self.trials.values())

    @property
    def now(self) -> str:
        """The execution of the next step."""
        for name, trial in self.trials.items():
            if len(trial.seconds) < self._timed:
                return name
        return min(self.trials, key=lambda name: statistics.median(self.trials[name].seconds))

    def saw(self, seconds: float) -> None:
        """Takes down how long the step of `now` took."""
        if self.decided:
            return
        name = self.now
        trial = self.trials[name]
        trial.steps += 1
        if trial.steps > self._warm[name]:
            trial.seconds.append(seconds)
