"""Islands that train together: all take the same steps, and go on when some of them are lost.

Every step is sent without waiting for the one before. What is needed to go on after a loss is kept:
the newest state that all islands are known to have (the *base*), and of each later step its rows.
When an island is lost, the newest state that is whole on any other is found; who has not got it is
given it; and the later steps are taken again, with the same rows cut in the same parts.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ...runtime import ProgramError, Runtime, RuntimeFault, Value, fetch
from ..errors import AllIslandsLost, RunError
from .comebacks import Comebacks
from .events import Events
from .part_step import PartStep
from .placed import StepPrograms

# Steps that may be under way before the oldest is waited for; each holds its state.
AHEAD = 3
# Seconds after an error until the island that it comes from is known to be lost.
NOTICED = 15.0
# Losses in a row with no step between them, for each island.
LOSSES = 4


@dataclasses.dataclass(eq=False)
class Entry:
    """A step that was sent.

    Attributes:
        number: of the step.
        rows: of each part.
        states: of each island, after it.
        marks: of each island a small result of what makes its state, by which it is known to be
            there: the loss.
        loss: once it is known.
    """

    number: int
    rows: Sequence[Any]
    states: dict[str, Any] = dataclasses.field(default_factory=dict)
    marks: dict[str, Value] = dataclasses.field(default_factory=dict)
    loss: np.ndarray | None = None


class StepLoss:
    """The loss of a step, when it is asked for; a loss of an island before that is mended."""

    def __init__(self, team: Team, entry: Entry):
        self._team, self._entry = team, entry

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._team.loss_of(self._entry), dtype)


class Team:
    """The islands of a run.

    Attributes:
        alive: names of those that take part now, in order.
    """

    def __init__(self, step: PartStep, system: Runtime, events: Events):
        self._system, self._events = system, events
        self._names = list(system.islands)
        slices = {n: system.virtual_devices(n).add_slice(1) for n in self._names}
        self._programs = StepPrograms(step, slices)
        self._comebacks = Comebacks(system, self._warm, events)
        self._shapes: Any = None
        self._pending: deque[Entry] = deque()
        self._base = Entry(0, ())
        self._losses = 0
        self.alive = list(self._names)

    # What a trainer asks.

    def begin(self, state: Any) -> None:
        """All islands have this state from now on.

        Args:
            state: of arrays of this process.

        Raises:
            AllIslandsLost: as all that follows.
            RunError: islands are lost again and again, or a step fails for another reason.
        """
        self._pending.clear()
        number = int(state["step"])
        while True:
            states = {name: self._programs.on[name].copy(state) for name in self.alive}
            marks = {name: own["step"] for name, own in states.items()}
            self._base = Entry(number, (), states, marks)
            try:
                fetch(marks)
                return
            except RuntimeFault as error:
                self._without_the_lost(error)

    def step(self, rows: Sequence[Any]) -> StepLoss:
        """Sends a step.

        Args:
            rows: of each part, arrays of this process.
        """
        self._advance()
        self._take_in()
        self._shapes = self._shapes or _shapes((self._base.states[self.alive[0]], list(rows)))
        entry = Entry(self._newest.number + 1, rows)
        self._pending.append(entry)
        try:
            self._send(entry)
        except RuntimeFault as error:
            self._recover(error)
        return StepLoss(self, entry)

    def loss_of(self, entry: Entry) -> np.ndarray:
        """Waits for the loss of a step."""
        while entry.loss is None:
            try:
                entry.loss = np.asarray(entry.marks[self.alive[0]].result())
            except RuntimeFault as error:
                self._recover(error)
        return entry.loss

    def read(self) -> dict[str, Any]:
        """The metrics since the last call; the islands' sums of them are empty afterwards."""
        while True:
            states = self._settled()
            try:
                found = {
                    name: self._programs.on[name].read(
                        states[name]["interval"], states[name]["step"]
                    )
                    for name in self.alive
                }
                metrics = fetch({name: metrics for name, (metrics, _) in found.items()})
            except RuntimeFault as error:
                self._recover(error)
                continue
            emptied = {n: states[n] | {"interval": empty} for n, (_, empty) in found.items()}
            marks = {n: jax.tree.leaves(empty)[0] for n, (_, empty) in found.items()}
            self._base = Entry(self._base.number, (), emptied, marks)
            return metrics[self.alive[0]]

    def state(self, part: str | None = None) -> Any:
        """The state of the islands, or a part of it, as arrays of this process.

        Raises:
            RunError: the islands have not all the same.
        """
        while True:
            states = self._settled()
            try:
                digests = fetch({n: self._programs.on[n].digest(states[n]) for n in self.alive})
                self._check_same({n: np.asarray(found).tobytes() for n, found in digests.items()})
                own = states[self.alive[0]]
                return fetch(own if part is None else own[part])
            except RuntimeFault as error:
                self._recover(error)

    def wait_for_comebacks(self) -> None:
        """After the state was lost: waits for an island to begin again with.

        Raises:
            RunError: none comes.
        """
        if not self.alive and not self._comebacks.wait():
            raise RunError(
                "all islands are lost and none starts again; the run goes on from its newest "
                "checkpoint by the same command"
            )
        while self._comebacks.back:
            self._enlist(self._comebacks.back.popleft())

    def close(self) -> None:
        """No island is started again any more."""
        self._comebacks.close()

    # Going on.

    @property
    def _newest(self) -> Entry:
        return self._pending[-1] if self._pending else self._base

    def _send(self, entry: Entry) -> None:
        before = self._base
        for other in self._pending:
            if other is entry:
                break
            before = other
        states = {name: before.states[name] for name in self.alive}
        made = self._programs.program(self._programs.owners(self.alive))(states, list(entry.rows))
        entry.states = {name: state for name, (state, _) in made.items()}
        entry.marks = {name: loss for name, (_, loss) in made.items()}

    def _advance(self) -> None:
        """Steps that are whole everywhere need no more be kept; waits only where many are sent."""
        while self._pending:
            oldest = self._pending[0]
            done = all(oldest.marks[name].done() for name in self.alive)
            if not done and len(self._pending) < AHEAD:
                return
            self._finish(oldest)

    def _settled(self) -> dict[str, Any]:
        """Waits for all that was sent; the states of all islands."""
        while self._pending:
            self._finish(self._pending[0])
        return self._base.states

    def _finish(self, oldest: Entry) -> None:
        """Waits for the oldest step on all islands, and makes it the base."""
        try:
            marks = fetch({name: oldest.marks[name] for name in self.alive})
        except RuntimeFault as error:
            self._recover(error)
            return
        oldest.loss = np.asarray(marks[self.alive[0]])
        self._base, self._losses = oldest, 0
        self._pending.popleft()

    # When an island is lost.

    def _recover(self, error: Exception) -> None:
        """Goes on with the islands that are left, from the newest state that one of them has."""
        while True:
            self._without_the_lost(error)
            try:
                self._go_back()
                for entry in self._pending:
                    self._send(entry)
                return
            except RuntimeFault as another:
                error = another

    def _without_the_lost(self, error: Exception) -> None:
        """Leaves out who is lost, and has it started again.

        Raises:
            RunError: nobody is lost, so that the error is the step's own; or too many were.
            AllIslandsLost: nobody is left.
        """
        if isinstance(error, ProgramError):
            raise error
        end = time.monotonic() + NOTICED
        while not (lost := [n for n in self.alive if self._system.islands[n].lost]):
            if time.monotonic() > end:
                raise RunError(f"the step after {self._base.number} fails: {error}") from error
            time.sleep(0.005)
        self.alive = [name for name in self.alive if name not in lost]
        left = ", ".join(self.alive) or "none"
        for name in lost:
            self._events.add(
                "lost",
                f"{name} is lost after step {self._base.number}; left: {left}",
                island=name,
                step=self._base.number,
                left=self.alive,
            )
            self._losses += 1
        if self._losses > LOSSES * len(self._names):
            raise RunError(
                f"islands were lost {self._losses} times and no step was done between: {error}. "
                "The run goes on from its newest checkpoint by the same command"
            ) from error
        for name in lost:
            self._comebacks.start(name)
        if not self.alive:
            raise AllIslandsLost(
                f"all islands are lost after step {self._base.number}: going on from the newest "
                "checkpoint"
            )

    def _go_back(self) -> None:
        """The newest state that is whole somewhere is everybody's; later steps stay to be done."""
        for entry in [*reversed(self._pending), self._base]:
            holders = [name for name in self.alive if self._has(entry, name)]
            if holders:
                break
        else:
            raise AllIslandsLost(
                f"the islands that are left have no state of step {self._base.number} or later: "
                "going on from the newest checkpoint"
            )
        while self._pending and self._pending[0].number <= entry.number:
            self._has(self._pending.popleft(), holders[0])  # whose loss may still be asked for
        states = {name: entry.states[name] for name in holders}
        marks: dict[str, Value] = {name: entry.marks[name] for name in holders}
        for name in self.alive:
            if name not in holders:
                states[name], marks[name] = self._given(name, states[holders[0]])
        self._base = Entry(entry.number, (), states, marks)

    def _has(self, entry: Entry, name: str) -> bool:
        """Whether an island has the state after a step; waits for it."""
        if name not in entry.marks:
            return False
        try:
            mark = np.asarray(entry.marks[name].result())
        except RuntimeFault:
            return False
        if entry.rows:
            entry.loss = mark
        return True

    def _given(self, name: str, state: Any) -> tuple[Any, Value]:
        """A state sent to an island; waits for it."""
        sent = self._programs.on[name].copy(state)
        sent["step"].result()
        return sent, sent["step"]

    # When an island is there again.

    def _take_in(self) -> None:
        """Islands that are there again are given the state, and take part from this step on."""
        while self._comebacks.back:
            name = self._comebacks.back.popleft()
            state = self._settled()[self.alive[0]]
            began = time.monotonic()
            try:
                self._base.states[name], self._base.marks[name] = self._given(name, state)
            except RuntimeFault as error:
                self._enlist(name)  # so that it counts among those who may be lost
                self._recover(error)
                continue
            self._enlist(name)
            self._events.add(
                "back",
                f"{name} takes part again from step {self._base.number + 1}",
                island=name,
                step=self._base.number + 1,
                seconds=round(time.monotonic() - began, 3),
            )

    def _enlist(self, name: str) -> None:
        self.alive = [n for n in self._names if n in self.alive or n == name]

    def _warm(self, name: str) -> None:
        """Compiles on an island that is there again, while the others train."""
        if self._shapes is None:
            return
        state, rows = self._shapes
        members = [n for n in self._names if n in self.alive or n == name]
        on = self._programs.on[name]
        on.copy.lower(state)
        on.read.lower(state["interval"], state["step"])
        on.digest.lower(state)
        program = self._programs.program(self._programs.owners(members))
        program.compile(dict.fromkeys(members, state), rows)

    def _check_same(self, digests: Mapping[str, bytes]) -> None:
        if len(set(digests.values())) > 1:
            said = ", ".join(f"{name} {found.hex()}" for name, found in digests.items())
            raise RunError(
                f"after step {self._base.number} the islands have not the same parameters and "
                f"optimiser state ({said}), though all took the same steps: their machines round "
                "otherwise. Take islands of one kind; the newest checkpoint is whole"
            )


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
