"""Islands that train together: all take the same steps, and go on when some of them are lost.

Every step is sent without waiting for the one before. What is needed to go on after a loss is kept:
the newest state that all islands are known to have (the *base*), and of each later step its rows.
When an island is lost, the newest state that is whole on any other is found; who has not got it is
given it; and the later steps are taken again, with the same rows cut in the same parts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ...runtime import Runtime, RuntimeFault, Value, fetch
from ..errors import AllIslandsLost, RunError
from .entries import Entry, StepLoss
from .events import Events
from .members import Members
from .packing import Packed
from .part_step import PartStep
from .placed import StepPrograms

# Steps that may be under way before the oldest is waited for; each holds its state.
AHEAD = 3


class Team:
    """The islands of a run, and the state of its training on them.

    Attributes:
        members: who takes part.
    """

    def __init__(self, step: PartStep, system: Runtime, events: Events):
        self.members = Members(system, self._warm, events)
        slices = {n: system.virtual_devices(n).add_slice(1) for n in self.members.names}
        self._programs, self._events = StepPrograms(step, slices), events
        self._shapes: Any = None
        self._pending: deque[Entry] = deque()
        self._base = Entry(0)

    # What a trainer asks.

    def begin(self, state: Packed, number: int) -> None:
        """All islands have this state from now on.

        Args:
            state: of arrays of this process.
            number: of steps done.

        Raises:
            AllIslandsLost: as all that follows.
            RunError: islands are lost again and again, or a step fails for another reason.
        """
        self._pending.clear()
        while True:
            states = {name: self._programs.on[name].copy(state) for name in self.members.alive}
            marks = {name: _mark(own) for name, own in states.items()}
            self._base = Entry(number, states=states, marks=marks)
            try:
                fetch(marks)
                return
            except RuntimeFault as error:
                self.members.leave_out_the_lost(error, self._base.number)

    def step(self, rows: Sequence[Any]) -> StepLoss:
        """Sends a step.

        Args:
            rows: of each part, and what is known of all, arrays of this process.
        """
        self._advance()
        self._take_in()
        self._shapes = self._shapes or _shapes((self._base.states[self.members.alive[0]], rows))
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
                entry.loss = np.asarray(entry.marks[self.members.alive[0]])
            except RuntimeFault as error:
                self._recover(error)
        return entry.loss

    def read(self) -> dict[str, Any]:
        """The metrics since the last call; the islands' sums of them are empty afterwards."""
        while True:
            states = self._settled()
            try:
                found = {n: self._programs.on[n].read(states[n]) for n in self.members.alive}
                metrics = fetch({name: metrics for name, (metrics, _) in found.items()})
            except RuntimeFault as error:
                self._recover(error)
                continue
            emptied = {name: state for name, (_, state) in found.items()}
            marks = {name: _mark(state) for name, state in emptied.items()}
            self._base = Entry(self._base.number, states=emptied, marks=marks)
            return metrics[self.members.alive[0]]

    def state(self) -> Packed:
        """The state of the islands, as arrays of this process.

        Raises:
            RunError: the islands have not all the same.
        """
        while True:
            states = self._settled()
            try:
                digests = fetch(
                    {n: self._programs.on[n].digest(states[n]) for n in self.members.alive}
                )
                self._check_same({n: np.asarray(found).tobytes() for n, found in digests.items()})
                return fetch(states[self.members.alive[0]])
            except RuntimeFault as error:
                self._recover(error)

    def close(self) -> None:
        """No island is started again any more."""
        self.members.comebacks.close()

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
        states = {name: before.states[name] for name in self.members.alive}
        program = self._programs.program(self._programs.owners(self.members.alive))
        made = program(states, *entry.rows)
        entry.states = {name: state for name, (state, _) in made.items()}
        entry.marks = {name: loss for name, (_, loss) in made.items()}

    def _advance(self) -> None:
        """Steps that are whole everywhere need no more be kept; waits only where many are sent."""
        while self._pending:
            oldest = self._pending[0]
            done = all(oldest.marks[name].done() for name in self.members.alive)
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
            found = [np.asarray(oldest.marks[name]) for name in self.members.alive]
        except RuntimeFault as error:
            self._recover(error)
            return
        oldest.loss = found[0]
        self._base = oldest
        self.members.progressed()
        self._pending.popleft()

    # When an island is lost.

    def _recover(self, error: Exception) -> None:
        """Goes on with the islands that are left, from the newest state that one of them has."""
        while True:
            self.members.leave_out_the_lost(error, self._base.number)
            try:
                self._go_back()
                for entry in self._pending:
                    self._send(entry)
                return
            except RuntimeFault as another:
                error = another

    def _go_back(self) -> None:
        """The newest state that is whole somewhere is everybody's; later steps stay to be done."""
        for entry in [*reversed(self._pending), self._base]:
            holders = [name for name in self.members.alive if self._has(entry, name)]
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
        for name in self.members.alive:
            if name not in holders:
                states[name], marks[name] = self._given(name, states[holders[0]])
        self._base = Entry(entry.number, states=states, marks=marks)

    def _has(self, entry: Entry, name: str) -> bool:
        """Whether an island has the state after a step; waits for it."""
        if name not in entry.marks:
            return False
        try:
            mark = np.asarray(entry.marks[name])
        except RuntimeFault:
            return False
        if entry.rows:
            entry.loss = mark
        return True

    def _given(self, name: str, state: Any) -> tuple[Any, Value]:
        """A state sent to an island; waits for it."""
        sent = self._programs.on[name].copy(state)
        _mark(sent).result()
        return sent, _mark(sent)

    # When an island is there again.

    def _take_in(self) -> None:
        """Islands that are there again are given the state, and take part from this step on."""
        while self.members.comebacks.back:
            # First: if nobody is left here, the one who is back is whom the run goes on with.
            state = self._settled()[self.members.alive[0]]
            name = self.members.comebacks.back.popleft()
            began = time.monotonic()
            try:
                self._base.states[name], self._base.marks[name] = self._given(name, state)
            except RuntimeFault as error:
                self.members.enlist(name)  # so that it counts among those who may be lost
                self._recover(error)
                continue
            self.members.enlist(name)
            self._events.add(
                "back",
                f"{name} takes part again from step {self._base.number + 1}",
                island=name,
                step=self._base.number + 1,
                seconds=round(time.monotonic() - began, 3),
            )

    def _warm(self, name: str) -> None:
        """Compiles on an island that is there again, while the others train."""
        if self._shapes is None:
            return
        state, rows = self._shapes
        members = self.members.with_another(name)
        on = self._programs.on[name]
        on.copy.lower(state)
        on.read.lower(state)
        on.digest.lower(state)
        program = self._programs.program(self._programs.owners(members))
        program.compile(dict.fromkeys(members, state), *rows)

    def _check_same(self, digests: Mapping[str, bytes]) -> None:
        if len(set(digests.values())) > 1:
            said = ", ".join(f"{name} {found.hex()}" for name, found in digests.items())
            raise RunError(
                f"after step {self._base.number} the islands have not the same parameters and "
                f"optimiser state ({said}), though all took the same steps: their machines round "
                "otherwise. Take islands of one kind; the newest checkpoint is whole"
            )


def _mark(state: Mapping[str, Any]) -> Value:
    """The smallest array of a state; all of them come from one node."""
    return min(state.values(), key=lambda leaf: leaf.shape)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
