"""Which islands take part: who is lost is left out and started again, who is back is told."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...runtime import ProgramError, Runtime
from ..errors import AllIslandsLost, RunError
from .comebacks import Comebacks
from .events import Events

# Seconds after an error until the island that it comes from is known to be lost.
NOTICED = 15.0
# Losses with no step done between them, for each island, before a run gives up.
LOSSES = 4


class Members:
    """The islands of a run.

    Attributes:
        names: of all, in order.
        alive: of those that take part now, in the same order.
        comebacks: those that are started again.
    """

    def __init__(self, system: Runtime, warm: Callable[[str], None], events: Events):
        """Args:
        system: whose islands; all are there.
        warm: compiles what an island that is there again will run.
        events: where losses are told.
        """
        self._system, self._events = system, events
        self.names = list(system.islands)
        self.alive = list(self.names)
        self.comebacks = Comebacks(system, warm, events)
        self._losses = 0

    def leave_out_the_lost(self, error: Exception, step: int) -> None:
        """Leaves out who is lost, and has it started again.

        Args:
            error: by which a loss was noticed.
            step: the last one that is whole.

        Raises:
            RunError: nobody is lost, so that the error is the step's own; or too many were.
            AllIslandsLost: nobody is left.
        """
        if isinstance(error, ProgramError):
            raise error
        end = time.monotonic() + NOTICED
        while not (lost := [name for name in self.alive if self._system.islands[name].lost]):
            if time.monotonic() > end:
                raise RunError(f"the step after {step} fails: {error}") from error
            time.sleep(0.005)
        self.alive = [name for name in self.alive if name not in lost]
        self._losses += len(lost)
        left = ", ".join(self.alive) or "none"
        for name in lost:
            text = f"{name} is lost after step {step}; left: {left}"
            self._events.add("lost", text, island=name, step=step, left=self.alive)
        if self._losses > LOSSES * len(self.names):
            raise RunError(
                f"islands were lost {self._losses} times and no step was done between: {error}. "
                "The run goes on from its newest checkpoint by the same command"
            ) from error
        for name in lost:
            self.comebacks.start(name)
        if not self.alive:
            raise AllIslandsLost(
                f"all islands are lost after step {step}: going on from the newest checkpoint"
            )

    def progressed(self) -> None:
        """A step is whole on all: losses are counted anew."""
        self._losses = 0

    def enlist(self, name: str) -> None:
        """An island takes part, from now on."""
        self.alive = [n for n in self.names if n in self.alive or n == name]

    def with_another(self, name: str) -> list[str]:
        """Who would take part with an island more."""
        return [n for n in self.names if n in self.alive or n == name]

    def wait_for_one(self) -> None:
        """Waits until an island is there, if none is; those that are back take part.

        Raises:
            RunError: none comes.
        """
        if not self.alive and not self.comebacks.wait():
            raise RunError(
                "all islands are lost and none starts again; the run goes on from its newest "
                "checkpoint by the same command"
            )
        while self.comebacks.back:
            self.enlist(self.comebacks.back.popleft())
