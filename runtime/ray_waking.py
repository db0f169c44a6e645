"""A switch that its island expands by itself: one message, and nobody waits for the counts.

The controller sends, with the turn, whose counts and rows, the parameters of every branch by handle
and the keys of all executables that may be needed; the island reads the counts in process and runs
who is awake (`ray_waker`), by the same `Forward` and `Training` as the controller would. Results
have their handles beforehand. What the backward pass needs stays on the island under a number, and
every branch's gradient has numbers, which are somebody's only if it was awake: who was, comes back
with the news.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .branches import Awaited, Keeps, Sparse
from .computations import Executable
from .errors import ValueReleased
from .graph import OPAQUE, Shape
from .ray_arrays import RayArray
from .ray_lent import Lent, Reserved, Said
from .ray_messenger import Sender
from .ray_waker import Way
from .switch_kinds import BACKWARD, FORWARD, KEEPING

if TYPE_CHECKING:
    from .computations import Computation
    from .conditional import Wake
    from .ray_outbox import Op
    from .switches import _Over

_names = itertools.count(1)
# Of this process, whose keys are nobody else's.
_RUNS = secrets.token_hex(6)


class Woken:
    """One switch over rows of one shape, for slices where they stand."""

    def __init__(self, over: _Over, keeping: bool, keys: dict[tuple[str, int, int, int], str]):
        self.name, self.over, self.keeping = f"way {next(_names)} {id(over):x}", over, keeping
        self.slices = over.owner.slices
        self.homes: list[Any] = [part.sharding() for part in self.slices]
        self.outbox, self.where = self.homes[0].outbox, self.homes[0]
        outboxes = [home.outbox for home in self.homes]
        self.others = {one.peer: one for one in outboxes if one is not self.outbox}
        places = tuple("" if one is self.outbox else one.peer for one in outboxes)
        spreads = tuple(home.spread for home in self.homes)
        self.way = Way(over.training, keys, spreads, places)
        self.lent: Lent = self.homes[0].backend.lent
        self.told = False

    def sending(self, counts: Any, rows: Any, bank: Any) -> Callable[[Wake], list[Any]] | None:
        """How it is sent; None where something of it is elsewhere."""
        params = [jax.tree.leaves(tree) for tree in bank.fetch(range(self.over.owner.count))]
        for branch, leaves in enumerate([[counts, rows], *params], -1):
            outbox = self.homes[max(branch, 0) % len(self.homes)].outbox
            for array in leaves:
                if type(array) is not RayArray or array.outbox is not outbox or array._deleted:
                    return None
        if rows.sharding != self.where:
            return None
        return lambda wake: self.send(wake, counts, rows, params)

    def send(self, wake: Wake, counts: Any, rows: Any, params: list[list[Any]]) -> list[Any]:
        owned, outbox, over = wake.owns(1) and not self.keeping, self.outbox, self.over
        away = [leaf for leaves in params for leaf in leaves if leaf.outbox is not outbox]

        def call(counts: Any, rows: Any) -> list[Any]:
            numbers = [[leaf.number for leaf in leaves] for leaves in params]
            with outbox.lock:
                outbox.check()
                op = outbox.op()
                outs, (said,) = outbox.numbers(len(self.slices)), outbox.numbers(1)
                kept = outbox.numbers(1)[0] if self.keeping else None
                way = None if self.told else self.way
                sender = self._sender(op, away) if self.others else None
                # Who has gradients is asked for by all; what was only run, by few.
                tells = bool(self.keeping or self.others)
                given = counts.number, rows.number, owned, numbers, outs, said, tells, kept, sender
                outbox.append(("wake", "forward", self.name, way, *given))
                self.told = True
                read = self.read(op, said, counts, tells)
            if owned:
                rows.donated()
            over.owner.last = read
            parts = [RayArray(op, n, over.out, self.where) for n in outs]
            return parts if kept is None else [*parts, KeptThere(self, op, kept, read, rows, away)]

        whole = Executable(call, (), (), 0, 0, False, {})
        return wake.call(whole, [counts, rows], self.slices[0], "as a whole")

    def read(self, op: Op, number: int, counts: RayArray, tells: bool = True) -> Said:
        """The counts as they were read: told when an operation is done, or to be fetched."""
        read = Said(op, number, Shape(counts.shape, counts.dtype), self.where)
        read.lent = self.lent
        if tells:
            self.outbox.tell(read)
        return read

    def _sender(self, op: Op, away: Sequence[RayArray]) -> Sender:
        """Of errands to other islands, which lend their branches' parameters for it."""
        after = dict.fromkeys(self.others, 0)
        for leaf in away:
            after[leaf.outbox.peer] = max(after[leaf.outbox.peer], leaf.op.number)
        for peer, other in self.others.items():
            if other.reached < after[peer]:  # it may not have been told of them
                self.outbox.after(other)
        self.lent.lend(op, away)
        return Sender(self.outbox.peer, f"{_RUNS} {next(_names)}", after)


class KeptThere(RayArray, Keeps):
    """What the backward pass of a switch needs, on its island; passes for an array.

    Attributes:
        woken: the switch.
        read: its counts.
        rows: what went in.
        away: parameters of branches on other islands.
    """

    __slots__ = ("away", "read", "rows", "woken")

    def __init__(
        self,
        woken: Woken,
        op: Op,
        number: int,
        read: RayArray,
        rows: RayArray,
        away: Sequence[RayArray],
    ):
        super().__init__(op, number, OPAQUE, woken.where)
        self.woken, self.read, self.rows, self.away = woken, read, (rows,), away

    def back(self, wake: Wake, grads: list[Any]) -> list[Any]:
        """The backward node, there: the gradient of who was awake, and the rows' cotangents."""
        woken, outbox = self.woken, self.outbox
        owned = [wake.owns(2 + n) for n in range(len(grads))]
        training = woken.way.training

        def call(*grads: Any) -> list[Any]:
            for array in (*grads, *self.away):
                if array._deleted:
                    raise ValueReleased(f"{array!r} has been deleted or donated")
            size = woken.over.owner.count * training.leaves
            found = {peer: Reserved(other, size) for peer, other in woken.others.items()}
            read = self.read
            with outbox.lock:
                outbox.check()
                op = outbox.op()
                outs = outbox.numbers(len(woken.slices) if training.floats else 0)
                found[""] = Reserved(outbox, size)
                said = None
                if woken.others:  # what is elsewhere is there when this is done, and not before
                    (said,) = outbox.numbers(1)
                    read = woken.read(op, said, self.read)
                    woken.lent.lend(op, [*self.away, *found.values()])
                numbers = [array.number for array in grads]
                places = {peer: reserved.numbers for peer, reserved in found.items()}
                given = self.number, numbers, owned, outs, places, said
                outbox.append(("wake", "backward", *given))
            for array, gone in zip(grads, owned, strict=True):
                if gone:
                    array.donated()
            rows = [RayArray(op, n, woken.over.rows, woken.where) for n in outs]
            return [SparseThere(woken, op, found, [read]), *rows]

        whole = Executable(call, (), (), 0, 0, False, {})
        return wake.call(whole, grads, woken.slices[0], "as a whole")


class SparseThere(Awaited):
    """The gradient of branches of which the island alone knows, as yet, who was awake."""

    nbytes = 0

    def __init__(
        self, woken: Woken, op: Op, numbers: dict[str, Reserved], read: Sequence[RayArray]
    ):
        """Args:
        woken: the switch, or one of several that share their branches.
        op: what makes it.
        numbers: by island, "" is the router's, of all branches' arrays in order.
        read: counts, of each switch.
        """
        self.woken, self.op, self.numbers, self.read = woken, op, numbers, tuple(read)
        self._known: Sparse | None = None
        self._lock = threading.Lock()

    def known(self) -> Sparse:
        with self._lock:  # its numbers are taken once
            if self._known is None:
                self._known = self._found()
            return self._known

    def _found(self) -> Sparse:
        over, homes, places = self.woken.over, self.woken.homes, self.woken.way.places
        awake = np.flatnonzero(sum(np.asarray(counts) for counts in self.read)).tolist()
        shapes = jax.tree.leaves(over.owner.params)
        by_place: dict[str, list[int]] = {}
        for branch in awake:
            by_place.setdefault(places[branch % len(homes)], []).append(branch)
        trees: dict[int, Any] = {}
        for place, branches in by_place.items():
            numbers = self.numbers[place].take()
            own = {b: numbers[b * len(shapes) : (b + 1) * len(shapes)] for b in branches}
            op = self.op
            if place:
                op = _seen(self.woken.others[place], [n for ns in own.values() for n in ns])
            for branch, ns in own.items():
                kinds = zip(ns, shapes, strict=True)
                where = homes[branch % len(homes)]
                trees[branch] = [RayArray(op, n, shape, where) for n, shape in kinds]
        return over.sparse({branch: trees[branch] for branch in awake})

    def plus(
        self, others: Sequence[Any], wake: Wake, adder: Callable[[Any], Computation]
    ) -> SparseThere | None:
        woken, every = self.woken, [self, *others]
        if any(type(x) is not SparseThere or x.woken.slices != woken.slices for x in others):
            return None
        if woken.others:
            return None
        outbox, leaves = woken.outbox, jax.tree.leaves(woken.over.owner.params)
        keys = [adder(part).lower(leaves, leaves)[1].call.key for part in woken.slices]

        def call() -> list[Any]:
            with outbox.lock:
                outbox.check()
                op = outbox.op()
                found = Reserved(outbox, woken.over.owner.count * len(leaves))
                sparse = [one.numbers[""].numbers for one in every]
                outbox.append(("wake", "add", sparse, len(leaves), keys, found.numbers))
            return [SparseThere(woken, op, {"": found}, [n for one in every for n in one.read])]

        whole = Executable(call, (), (), 0, 0, False, {})
        return wake.call(whole, [], woken.slices[0], "as a whole")[0]

    def is_ready(self) -> bool:
        return self.op.is_ready()

    def wait_at_most(self, seconds: float) -> bool:
        return self.op.wait_at_most(seconds)

    def block_until_ready(self) -> SparseThere:
        self.op.block_until_ready()
        return self

    def is_deleted(self) -> bool:
        """Never; its arrays may be, when they are known."""
        return False


def _seen(outbox: Any, numbers: list[int]) -> Op:
    """The operation by which an island sees that arrays which it made for another are there."""
    with outbox.lock:
        op = outbox.op()
        outbox.append(("see", numbers))
    return op


def woken(over: _Over, keeping: bool) -> Woken | None:
    """For where its slices stand; None if not all is compiled, or an island has several hosts.

    Args:
        over: the switch.
        keeping: with gradients.
    """
    parts = over.owner.slices
    homes: list[Any] = [part.sharding() for part in parts]
    outboxes = [home.outbox for home in homes]
    if any(outbox.hosts > 1 for outbox in outboxes):  # each would have to read the counts
        return None
    keys = {}
    for way in (KEEPING, BACKWARD) if keeping else (FORWARD,):
        for home, kind, group in over.may_wake(way):
            found: Any = over.known(kind, home, group)
            if found is None:
                return None
            bucket, count = (0, 0) if group is None else (group.bucket, len(group.branches))
            keys[kind, home, bucket, count] = found.call.key
    return Woken(over, keeping, keys)
