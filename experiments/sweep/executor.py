"""What runs the runs: this machine's cores or devices, or whatever else has these methods."""

from __future__ import annotations

import dataclasses
from typing import Protocol, runtime_checkable

from .plan import Plan, PlannedRun


@dataclasses.dataclass(frozen=True)
class Ended:
    """A run's process has ended.

    Attributes:
        name: of the run.
        code: its exit code: 0 for all done, 130 interrupted, below 0 a signal's number, anything
            else failed.
        output: the end of what it printed, for a failure's file.
    """

    name: str
    code: int
    output: str = ""


@runtime_checkable
class Executor(Protocol):
    """Runs one run of a plan where there is room, by `worker.work` in a process of its own."""

    def free(self) -> int:
        """How many more runs could start now."""
        ...

    def submit(self, plan: Plan, run: PlannedRun, evaluate: bool) -> None:
        """Starts a run, or goes on with it; the plan's file is written already."""
        ...

    def poll(self) -> list[Ended]:
        """Those that ended since the last call; waits for none."""
        ...

    def stop(self, now: bool = False) -> None:
        """Asks all that run to save and end (SIGINT), once; `now` kills them. Does not wait."""
        ...
