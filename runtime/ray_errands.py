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
from typing import TYPE_CHECKING, Any

from .errors import ValueReleased
from .ray_waker import Waker
from .ray_wire import pack_error, unpack_error
from .waking import Awake

if TYPE_CHECKING:
    from .ray_island import IslandHost
    from .ray_waker import Way


@dataclasses.dataclass(frozen=True)
class Made:
    """What a step of an errand makes, by its number; stands for an array where it is asked for."""

    to: str
    step: int


@dataclasses.dataclass(frozen=True)
class Param:
    """An array of the island that runs the errand, by its number."""

    number: int


@dataclasses.dataclass(frozen=True)
class Errand:
    """Work for another island.

    Attributes:
        key: under which its answer is waited for.
        whose: the island that asks.
        after: the operation that must have been enqueued before.
        ticket: to pull the rows.
        steps: `("rows", spread)`, the rows at a slice; or `("node", code, arguments, note)`, whose
            first result counts; arguments are `Made`, `Param` or arrays.
        outs: numbers of the steps whose results are wanted back.
    """

    key: str
    whose: str
    after: int
    ticket: str
    steps: list[tuple]
    outs: list[int]

    def run(self, host: IslandHost) -> None:
        """Runs it, enqueued and not waited for, and answers."""
        try:
            made = self._made(host)
            ticket = host._carrier.offer([made[n] for n in self.outs], self.whose)
            ill: list[Any] = [None] * len(self.outs)
            if host._letterbox.has_lost(self.whose):
                host._carrier.lose(self.whose)
        except Exception as error:  # who waits for it must be told
            ticket, ill = "", [pack_error(error)] * len(self.outs)
        host._post(self.whose, self.key, (ticket, ill), 0)

    def _made(self, host: IslandHost) -> list[Any]:
        made: list[Any] = []
        for kind, what, *more in self.steps:
            if kind == "rows":
                made.append(self._rows(host, what, [s[1] for s in self.steps[: len(made)]], made))
                continue
            given, note = more
            try:
                made.append(host.codes[what].call(*[_found(host, x, made) for x in given])[0])
            except Exception as error:
                if note:
                    error.add_note(note)
                raise
        return made

    def _rows(self, host: IslandHost, spread: tuple, before: list[tuple], made: list[Any]) -> Any:
        import jax
        import jax.numpy as jnp

        if not made:
            return host._carrier.pull(self.ticket, [host.sharding(spread)])[0]
        # Each slice writes to its own.
        if spread in before:
            return jnp.copy(made[before.index(spread)])
        return jax.device_put(made[0], host.sharding(spread))


class Errands:
    """Of other islands, on one that runs them."""

    def __init__(self, host: IslandHost):
        self._host, self._reached = host, 0
        self._waiting: list[Errand] = []
        self._lock = threading.Lock()

    def take(self, errand: Errand) -> None:
        """Runs it, now or as soon as it may be."""
        with self._lock:
            if errand.after > self._reached:
                self._waiting.append(errand)
                return
        errand.run(self._host)

    def enqueued(self, op: int) -> None:
        """An operation was; runs what has waited for it."""
        with self._lock:
            self._reached, waiting = op, self._waiting
            if not waiting:
                return
            ready = [errand for errand in waiting if errand.after <= op]
            self._waiting = [errand for errand in waiting if errand.after > op]
        for errand in ready:
            errand.run(self._host)


@dataclasses.dataclass(frozen=True)
class Sender:
    """Who sends errands, for one run of a switch.

    Attributes:
        me: the router's island, as others know it.
        key: of this run.
        after: by island, the operation that made the last of its branches' parameters.
    """

    me: str
    key: str
    after: dict[str, int]


class Messenger(Waker):
    """A driver of `Forward` whose homes may be on other islands.

    Attributes:
        pulled: islands from which something came.
    """

    def __init__(self, host: IslandHost, way: Way, params: list[list[int]], sender: Sender):
        super().__init__(host, way, params)
        self._sender = sender
        self._steps: dict[str, list[tuple]] = {}
        self._rows: Any = None
        self.pulled: list[str] = []

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        to = self.way.places[home]
        if not to:
            return super().node(kind, home, leaves, group)
        key, note = self.key(kind, home, group)
        return [self._step(to, ("node", key, leaves, note))]

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        import jax

        found, back = [], [n for n, array in enumerate(arrays) if type(array) is Made]
        came = self._fetched([arrays[n] for n in back])
        for n, (array, home) in enumerate(zip(arrays, homes, strict=True)):
            to, spread = self.way.places[home], self.way.spreads[home]
            if to:
                self._rows = array
                found.append(self._step(to, ("rows", spread)))
            elif n in back:
                found.append(next(came))
            else:
                found.append(jax.device_put(array, self.host.sharding(spread)))
        return found

    def owns(self, number: int) -> bool:
        # What others may still be pulling is not written to.
        return not self._steps and super().owns(number)

    def params(self, branches: Sequence[int]) -> list[Any]:
        if not self.way.places[branches[0] % len(self.way.places)]:
            return super().params(branches)
        return [Param(n) for branch in branches for n in self._params[branch]]

    def _step(self, to: str, step: tuple) -> Made:
        steps = self._steps.setdefault(to, [])
        steps.append(step)
        return Made(to, len(steps) - 1)

    def _fetched(self, wanted: list[Made]) -> Any:
        """Sends all errands, then waits for the words, and not for the bytes, of what is wanted."""
        host, sender = self.host, self._sender
        outs: dict[str, list[int]] = {}
        for made in wanted:
            outs.setdefault(made.to, []).append(made.step)
        for to, places in outs.items():
            ticket = host._carrier.offer([self._rows], to)
            key, after = f"{sender.key} {to}", sender.after[to]
            errand = Errand(key, sender.me, after, ticket, self._steps[to], places)
            host._post(to, key, errand, 0)
            if host._letterbox.has_lost(to):
                host._carrier.lose(to)
        words = {
            to: host._letterbox.word(f"{sender.key} {to}", to, len(places))
            for to, places in outs.items()
        }
        came: dict[Made, Any] = {}
        for to, places in outs.items():
            ticket, (failed, *_) = words[to]
            if failed is not None:
                raise unpack_error(failed)
            self.pulled.append(to)
            there = [host.sharding(self.way.spreads[0])] * len(places)
            arrays = host._carrier.pull(ticket, there)
            came.update({Made(to, n): a for n, a in zip(places, arrays, strict=True)})
        return iter([came[made] for made in wanted])


def _found(host: IslandHost, argument: Any, made: list[Any]) -> Any:
    if type(argument) is Made:
        return made[argument.step]
    if type(argument) is not Param:
        return argument
    if argument.number not in host.values:
        raise ValueReleased("a branch's parameters were deleted before it had run")
    return host.value(argument.number)
