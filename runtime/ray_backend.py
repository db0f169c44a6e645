"""Nodes, copies and messages of programs whose islands are other processes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import PartitionSpec

from .computations import Executable
from .errors import ValueReleased
from .graph import Shape, is_keys, nbytes
from .ray_arrays import RayArray, RaySharding
from .ray_code import packed
from .ray_lent import Lent
from .ray_outbox import Op, Outbox
from .ray_waking import woken
from .ray_wire import to_wire, unpack_error
from .steps import Expansion, Mover, Segment

if TYPE_CHECKING:
    from .computations import FlatComputation
    from .resources import Slice

# Bytes of a segment's results that come with the news of them, the smallest first; what a
# conditional node reads comes in any case.
TOLD = 1 << 16


class RayCall:
    """A node: handles in, handles out. It is sent when the turn ends."""

    def __init__(
        self,
        backend: RayBackend,
        key: str,
        inputs: tuple[RaySharding, ...],
        outputs: Sequence[tuple[Shape, RaySharding]],
        donated: tuple[int, ...],
        outbox: Outbox,
    ):
        self.backend, self.key, self.inputs, self.outputs = backend, key, inputs, list(outputs)
        self.donated, self.outbox, self.tells = donated, outbox, ()

    def telling(self, places: tuple[int, ...]) -> RayCall:
        """The same, of which some outputs' numbers come back by themselves."""
        found = copy.copy(self)
        found.tells = places
        return found

    def __call__(self, *arrays: Any) -> list[Any]:
        outbox = self.outbox
        for array in arrays:
            if type(array) is not RayArray or array.outbox is not outbox:
                arrays = self._brought(arrays)
                break
        for place in self.donated:
            self.backend.lent.wait_for(arrays[place])
        with outbox.lock:
            ins = [array.number for array in arrays]
            for array in arrays:
                if array._deleted:
                    raise ValueReleased(f"{array!r} has been deleted or donated")
            op = outbox.op()
            numbers = outbox.numbers(len(self.outputs))
            outbox.append(("run", self.key, ins, numbers, self.tells))
            made = [RayArray(op, n, *o) for n, o in zip(numbers, self.outputs, strict=True)]
            for place in self.tells:
                outbox.tell(made[place])
        for place in self.donated:
            arrays[place].donated()
        return made

    def _brought(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Those that are elsewhere, brought here: a switch's own parameters, and its spans."""
        found = list(arrays)
        away = [
            n for n, a in enumerate(found) if type(a) is not RayArray or a.outbox is not self.outbox
        ]
        brought = self.backend.bring([found[n] for n in away], [self.inputs[n] for n in away])
        for n, array in zip(away, brought, strict=True):
            found[n] = array
        return tuple(found)


class RayMover(Mover):
    """Copies to other devices, of the same island or of others."""

    def __init__(self, backend: RayBackend, targets: Sequence[Any]):
        super().__init__(targets)
        self.backend = backend

    def __call__(self, *arrays: Any) -> list[Any]:
        return self.backend.put(arrays, self.targets)

    def only(self, places: Sequence[int]) -> RayMover:
        return RayMover(self.backend, [self.targets[place] for place in places])


class RayBackend:
    """A back end whose devices are other processes'."""

    moves_shards = False
    longest = 128

    def __init__(self) -> None:
        self._name, self._keys = secrets.token_hex(6), itertools.count(1)
        self._shardings: weakref.WeakKeyDictionary[Slice, tuple[int, dict]] = (
            weakref.WeakKeyDictionary()
        )
        self._brought: dict[Any, tuple[weakref.ref[Any], RayArray]] = {}
        self._lock = threading.Lock()
        self.lent = Lent()

    def sharding(self, part: Slice, spec: PartitionSpec | None) -> Any:
        version, known = self._shardings.get(part, (-1, {}))
        if version != part.version:
            self._shardings[part] = part.version, (known := {})
        if spec not in known:
            known[spec] = RaySharding(part, spec)
        return known[spec]

    def compile(self, flat: FlatComputation, inputs: tuple[Shape, ...]) -> Executable:
        signature, (ins, outs) = flat.signature(inputs), flat.spread(inputs)
        sizes, made = [], 0
        for shape, where in zip(signature.outputs, outs, strict=True):
            made += nbytes(Shape(where.shard_shape(shape.shape), shape.dtype)) * flat.slice.size
            sizes.append(nbytes(shape))
        for shape, where in zip(inputs, ins, strict=True):
            where.shard_shape(shape.shape)
        plain = [n for n, o in enumerate(signature.outputs) if not is_keys(o)]
        watched = min(plain, key=sizes.__getitem__, default=-1)
        there: tuple[Any, ...] = ins
        device: Any = flat.slice.devices[0]
        outbox: Outbox = device.outbox
        key, whole = packed(
            flat,
            inputs,
            tuple(where.spread for where in there),
            tuple(where.spread for where in outs),  # pyright: ignore[reportAttributeAccessIssue]
            watched,
            device.platform,
        )
        if key not in outbox.codes:
            cost, error = outbox.ask("compile", key, *whole)
            if error is not None:
                raise unpack_error(error)
            outbox.codes[key] = cost
        outputs: Any = list(zip(signature.outputs, outs, strict=True))
        call = RayCall(self, key, there, outputs, flat.donated, outbox)
        gang = flat.slice.size > 1
        return Executable(call, ins, outs, watched, made, gang, outbox.codes[key])

    def put(self, arrays: Sequence[Any], shardings: Sequence[Any]) -> list[Any]:
        """Numbers and arrays of this process, arrays of the same island, and of others."""
        ways: dict[tuple, list[int]] = {}
        arrays = [self._movable(a, w) for a, w in zip(arrays, shardings, strict=True)]
        for n, (array, wanted) in enumerate(zip(arrays, shardings, strict=True)):
            if type(array) is not RayArray:
                way = "put", None, wanted.outbox
            elif array.outbox is wanted.outbox:
                way = "move", None, wanted.outbox
            else:  # whose hosts are the same
                way = "take", array.outbox, wanted.outbox, array.sharding.hosts, wanted.hosts
            ways.setdefault(way, []).append(n)
        found: dict[int, Any] = {}
        for (kind, source, outbox, *_), places in ways.items():
            given = [arrays[n] for n in places]
            there = [shardings[n] for n in places]
            made = {"put": self._put, "move": self._move, "take": self._carry}[kind](
                given, there, outbox, source
            )
            found.update(zip(places, made, strict=True))
        return [found[n] for n in range(len(arrays))]

    def bring(self, arrays: Sequence[Any], shardings: Sequence[Any]) -> list[Any]:
        """As `put`; a `jax.Array` of this process is sent once, as long as it lives."""
        found: list[Any] = []
        for array, wanted in zip(arrays, shardings, strict=True):
            key = (id(array), wanted)
            known = self._brought.get(key)
            if known is not None and known[0]() is array and not known[1].is_deleted():
                found.append(known[1])
                continue
            (made,) = self.put([array], [wanted])
            if isinstance(array, jax.Array):
                gone = lambda _, key=key: self._brought.pop(key, None)  # noqa: E731
                self._brought[key] = weakref.ref(array, gone), made
            found.append(made)
        return found

    def forget(self, outbox: Outbox) -> None:
        """An island's process is gone: what was brought there has to be brought again."""
        for key, (_, made) in list(self._brought.items()):
            if made.outbox is outbox:
                self._brought.pop(key, None)

    def mover(self, targets: Sequence[Any]) -> Mover:
        return RayMover(self, targets)

    def respread(self, shape: Shape, have: Any, wanted: Any) -> Callable[..., list[Any]]:
        return RayMover(self, [wanted])

    def sending(self, parts: tuple[Segment | Expansion, ...]) -> tuple[Segment | Expansion, ...]:
        """What is read, and small results, come back by themselves."""
        for part in parts:
            if isinstance(part, Segment):
                part.steps = _telling(part)
        return parts

    def woken_there(self, over: Any, keeping: bool, counts: Any, rows: Any, bank: Any) -> Any:
        """How a switch's island expands it by itself; None if that is for the controller to do."""
        versions = tuple(part.version for part in over.owner.slices)
        known, there = over.there.get(keeping, (None, None))
        if known != versions:
            there = woken(over, keeping)
            if there is None:  # some of it is not compiled yet
                return None
            over.there[keeping] = versions, there
        return there.sending(counts, rows, bank)

    def recorder(self) -> Any:
        from .recorder import Recorder

        return Recorder()

    def _movable(self, array: Any, wanted: Any) -> Any:
        """An array in pieces on several hosts goes to other devices when each has all of it."""
        if type(array) is not RayArray or len(array.sharding.hosts) == 1:
            return array
        have = array.sharding
        if have.is_fully_replicated or have.device_set == wanted.device_set:
            return array
        return self._move([array], [have.whole()], array.outbox, None)[0]

    def _put(self, given: list, there: list, outbox: Outbox, _: Any) -> list[RayArray]:
        wires = [to_wire(array) for array in given]
        shapes = []
        for array, wire, where in zip(given, wires, there, strict=True):
            keys = isinstance(wire, tuple)
            shapes.append((Shape(np.shape(array), array.dtype if keys else wire.dtype), where))
        with outbox.lock:
            outbox.check()
            op = outbox.op()
            numbers = outbox.numbers(len(shapes))
            outbox.append(("put", numbers, wires, [where.spread for where in there]))
        return _handles(op, numbers, shapes)

    def _move(self, given: list, there: list, outbox: Outbox, _: Any) -> list[RayArray]:
        with outbox.lock:
            ins = [array.number for array in given]
            op = outbox.op()
            numbers = outbox.numbers(len(given))
            spreads = [where.spread for where in there]
            whence = [array.sharding.hosts for array in given]
            more = (whence,) if outbox.hosts > 1 else ()
            outbox.append(("move", ins, numbers, spreads, *more))
        return _handles(op, numbers, _kinds(given, there))

    def _carry(self, given: list, there: list, outbox: Outbox, source: Outbox) -> list[RayArray]:
        """From one island to another, without us."""
        source.check()
        key = f"{self._name} {next(self._keys)}"
        have, wanted = given[0].sharding.hosts, there[0].hosts
        more = (have, wanted) if source.hosts > 1 or outbox.hosts > 1 else ()
        with source.lock:
            source.op()
            source.append(("send", [array.number for array in given], key, outbox.peer, *more))
        with outbox.lock:
            op = outbox.op()
            numbers = outbox.numbers(len(given))
            spreads = [where.spread for where in there]
            outbox.append(("take", numbers, key, spreads, source.peer))
            outbox.causes.add(op.number, source, max(array.op.number for array in given))
            outbox.after(source)
        return _handles(op, numbers, _kinds(given, there))


def _handles(op: Op, numbers: range, shapes: Sequence[Any]) -> list[RayArray]:
    return [RayArray(op, n, *found) for n, found in zip(numbers, shapes, strict=True)]


def _kinds(given: list, there: list) -> list[Any]:
    return [(Shape(a.shape, a.dtype), where) for a, where in zip(given, there, strict=True)]


def _telling(part: Segment) -> tuple[Any, ...]:
    """The segment's steps, with what is to come back: reads, and the smallest results."""
    dropped = {slot for step in part.steps for slot in step.drop} | set(part.shared)
    reads, sizes = set(part.reads), {}
    for step in part.steps:
        if isinstance(step.call, RayCall):
            for slot, (shape, where) in zip(step.outputs, step.call.outputs, strict=True):
                whole = len(where.hosts) == 1 or where.is_fully_replicated
                if whole and (slot in reads or slot not in dropped):
                    sizes[slot] = nbytes(shape)
    left, told = TOLD, set()
    for slot in sorted(sizes, key=lambda slot: (slot not in reads, sizes[slot])):
        left -= sizes[slot]
        if left < 0 and slot not in reads:
            break
        told.add(slot)
    found = []
    for step in part.steps:
        places = tuple(n for n, slot in enumerate(step.outputs) if slot in told)
        if places and isinstance(step.call, RayCall):
            step = dataclasses.replace(step, call=step.call.telling(places))
        found.append(step)
    return tuple(found)
