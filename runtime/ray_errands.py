"""A switch over several islands, decided by the one that has its router: what the others do for it.

The router's island tells those whose branches are awake what to run over which rows, and gets what
comes of it; it sends nothing to the others. An errand needs no numbers where it is run but those of
the branches' parameters, and may be run as soon as these were enqueued, in whatever thread comes
by: what is enqueued behind it does not depend on it, and parameters are not given away before.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from .errors import ValueReleased
from .ray_wire import pack_error

if TYPE_CHECKING:
    from .ray_island import IslandHost


@dataclasses.dataclass(frozen=True)
class Made:
    """What a step of an errand makes, one of its results; stands for an array."""

    to: str
    step: int
    out: int = 0


@dataclasses.dataclass(frozen=True)
class Others:
    """All results of a step but the first, of which there may be none."""

    nbytes: ClassVar = 0  # here
    step: int


@dataclasses.dataclass(frozen=True)
class Param:
    """An array of the island that runs the errand, by its number."""

    number: int


@dataclasses.dataclass(frozen=True)
class Errand:
    """Work for another island, or the rest of it.

    Attributes:
        key: by which it is known; its answer is waited for under this.
        whose: the island that asks.
        after: the operation that must have been enqueued before.
        ticket: to pull arrays; "" is none.
        spreads: where each of these goes first.
        steps: `("given", number, spread)`, one of these at a slice; or `("node", code, arguments,
            note)`; arguments are `Made`, `Others`, `Param` or arrays.
        goes_on: it is the rest of one that was kept; its steps count on.
        outs: numbers of the steps whose first results are wanted back.
        stores: results that get a number here: the number, and the step's and result's.
        keeps: there will be a rest.
    """

    key: str
    whose: str
    after: int
    ticket: str
    spreads: list[tuple]
    steps: list[tuple]
    goes_on: bool
    outs: list[int]
    stores: list[tuple[int, int, int]]
    keeps: bool

    def run(self, host: IslandHost, kept: dict[str, Kept]) -> None:
        """Runs it, enqueued and not waited for, and answers."""
        ticket, ill = "", [None] * max(1, len(self.outs))
        try:
            made = self._made(host, kept.pop(self.key).made if self.goes_on else [])
            for number, step, out in self.stores:
                host.values[number] = made[step][out]
            if self.outs:
                ticket = host._carrier.offer([made[n][0] for n in self.outs], self.whose)
            if self.keeps:  # what comes first was written to, or goes back
                steps = zip(self.steps, made, strict=True)
                made = [m if s[0] == "given" else [None, *m[1:]] for s, m in steps]
                kept[self.key] = Kept(self.whose, made)
            if host._letterbox.has_lost(self.whose):
                host._carrier.lose(self.whose)
        except Exception as error:  # who waits for it must be told
            ticket, ill = "", [pack_error(error)] * len(ill)
        host._post(self.whose, self.key, (ticket, ill), 0)

    def _made(self, host: IslandHost, made: list[list[Any]]) -> list[list[Any]]:
        came: list[Any] = []
        if self.ticket:
            came = host._carrier.pull(self.ticket, [host.sharding(s) for s in self.spreads])
        used: set[int] = set()
        for kind, what, *more in self.steps:
            if kind == "given":
                made.append([self._given(host, what, more[0], came, used)])
                continue
            given, note = more
            try:
                leaves = [leaf for x in given for leaf in _found(host, x, made)]
                made.append(host.codes[what].call(*leaves))
            except Exception as error:
                if note:
                    error.add_note(note)
                raise
        return made

    def _given(
        self, host: IslandHost, number: int, spread: tuple, came: list[Any], used: set[int]
    ) -> Any:
        import jax
        import jax.numpy as jnp

        if number not in used:
            used.add(number)
            return came[number]
        # Each slice writes to its own.
        if spread == self.spreads[number]:
            return jnp.copy(came[number])
        return jax.device_put(came[number], host.sharding(spread))


@dataclasses.dataclass(frozen=True)
class Kept:
    """What an errand has made, for its rest: results by step."""

    whose: str
    made: list[list[Any]]


@dataclasses.dataclass(frozen=True)
class Forget:
    """There will be no rest of an errand."""

    key: str


class Errands:
    """Of other islands, on one that runs them."""

    def __init__(self, host: IslandHost):
        self._host, self._reached = host, 0
        self._waiting: list[Errand] = []
        self._kept: dict[str, Kept] = {}
        self._lock = threading.Lock()

    def take(self, errand: Errand | Forget) -> None:
        """Runs it, now or as soon as it may be."""
        if isinstance(errand, Forget):
            self._kept.pop(errand.key, None)
            return
        with self._lock:
            if errand.after > self._reached:
                self._waiting.append(errand)
                return
        errand.run(self._host, self._kept)

    def enqueued(self, op: int) -> None:
        """An operation was; runs what has waited for it."""
        with self._lock:
            self._reached, waiting = op, self._waiting
            if not waiting:
                return
            ready = [errand for errand in waiting if errand.after <= op]
            self._waiting = [errand for errand in waiting if errand.after > op]
        for errand in ready:
            errand.run(self._host, self._kept)

    def lose(self, island: str) -> None:
        """It will ask for nothing any more."""
        for key in [key for key, kept in list(self._kept.items()) if kept.whose == island]:
            self._kept.pop(key, None)


def _found(host: IslandHost, argument: Any, made: list[list[Any]]) -> Sequence[Any]:
    if type(argument) is Made:
        return (made[argument.step][argument.out],)
    if type(argument) is Others:
        return made[argument.step][1:]
    if type(argument) is not Param:
        return (argument,)
    if argument.number not in host.values:
        raise ValueReleased("a branch's parameters were deleted before it had run")
    return (host.value(argument.number),)
