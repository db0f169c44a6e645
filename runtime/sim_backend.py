"""Nodes, copies and messages of programs whose devices are simulated."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jax.sharding import PartitionSpec

from .backend import LONGEST
from .computations import Executable
from .errors import ProgramError
from .graph import Shape, nbytes
from .sim_arrays import SimArray, SimSharding
from .sim_costs import CostBook
from .sim_engine import Engine, Group
from .steps import Expansion, Mover, Segment

if TYPE_CHECKING:
    from .computations import FlatComputation
    from .resources import Slice

Message = tuple[str, int]  # island, and how many hosts


class SimCall:
    """A node: takes arrays and gives arrays, whose task ends when the model says so."""

    def __init__(
        self,
        engine: Engine,
        group: Group,
        seconds: float,
        outputs: Sequence[tuple[Shape, SimSharding]],
        donated: tuple[int, ...] = (),
    ):
        self.engine, self.group, self.seconds = engine, group, seconds
        self.outputs, self.donated = tuple(outputs), donated
        self.message: Message | None = None

    def __call__(self, *arrays: Any) -> list[Any]:
        engine = self.engine
        with engine.timed():
            for array in arrays:
                if array._deleted:
                    raise RuntimeError(f"{array!r} has been deleted or donated")
            if self.message is not None:
                engine.message(*self.message)
            task = engine.node(self.group, self.seconds, [array.task for array in arrays])
            for place in self.donated:
                arrays[place].delete()
            return [SimArray(engine, shape, where, task) for shape, where in self.outputs]


class SimMover(Mover):
    """Copies between slices, each a transfer of its own."""

    def __init__(self, engine: Engine, targets: Sequence[SimSharding]):
        super().__init__(targets)  # pyright: ignore[reportArgumentType]
        self.engine = engine
        self.message: Message | None = None

    def __call__(self, *arrays: Any) -> list[Any]:
        engine, found = self.engine, []
        with engine.timed():
            if self.message is not None:
                engine.message(*self.message)
            for array, wanted in zip(arrays, self.targets, strict=True):
                target: Any = wanted
                task = engine.transfer(
                    array.nbytes,
                    array.sharding.group,
                    target.group,
                    target.is_fully_replicated,
                    array.task,
                )
                shape = Shape(array.shape, array.dtype)
                found.append(SimArray(engine, shape, target, task))
        return found

    def only(self, places: Sequence[int]) -> SimMover:
        few: list[Any] = [self.targets[place] for place in places]
        return SimMover(self.engine, few)


class SimBackend:
    """A back end whose devices are an `Engine`'s."""

    # Each host sends what its devices have.
    moves_shards = True
    longest = LONGEST

    def __init__(self, engine: Engine, costs: CostBook):
        self.engine, self.costs = engine, costs
        self._groups: weakref.WeakKeyDictionary[Slice, tuple[int, Group]] = (
            weakref.WeakKeyDictionary()
        )

    def group(self, part: Slice) -> Group:
        """The devices that a slice has now."""
        devices: Any = part.devices
        found = self._groups.get(part)
        if found is None or found[0] != part.version:
            found = self._groups[part] = part.version, self.engine.group(devices)
        return found[1]

    def sharding(self, part: Slice, spec: PartitionSpec | None) -> Any:
        return SimSharding(self.group(part), part.shape, spec)

    def compile(self, flat: FlatComputation, inputs: tuple[Shape, ...]) -> Executable:
        signature, (ins, outs) = flat.signature(inputs), flat.spread(inputs)
        cost, group = self.costs.of(flat, inputs), self.group(flat.slice)
        made, sizes = 0, []
        for shape, where in zip(signature.outputs, outs, strict=True):
            part = Shape(where.shard_shape(shape.shape), shape.dtype)
            made += nbytes(part) * len(group)
            sizes.append(nbytes(shape))
        for shape, where in zip(inputs, ins, strict=True):
            where.shard_shape(shape.shape)
        outputs: Any = list(zip(signature.outputs, outs, strict=True))
        seconds = cost.time(self.engine.machine, len(group))
        return Executable(
            SimCall(self.engine, group, seconds, outputs, flat.donated),
            ins,
            outs,
            min(range(len(sizes)), key=sizes.__getitem__, default=-1),
            made,
            len(group) > 1,
            {"flops": cost.flops, "bytes accessed": cost.bytes},
        )

    def put(self, arrays: Sequence[Any], shardings: Sequence[Any]) -> Sequence[Any]:
        """Arguments and constants: shapes are there from the beginning, numbers come from the
        controller's host, arrays of other slices from there."""
        found, engine = [], self.engine
        with engine.timed():
            for array, wanted in zip(arrays, shardings, strict=True):
                shape = Shape(tuple(array.shape), array.dtype)
                wanted.shard_shape(shape.shape)
                task = None
                if not isinstance(array, Shape):
                    theirs = isinstance(array, SimArray)
                    task = engine.transfer(
                        nbytes(shape),
                        array.sharding.group if theirs else None,
                        wanted.group,
                        wanted.is_fully_replicated,
                        array.task if theirs else None,
                    )
                found.append(SimArray(engine, shape, wanted, task))
        return found

    def mover(self, targets: Sequence[Any]) -> Mover:
        return SimMover(self.engine, targets)

    def respread(self, shape: Shape, have: Any, wanted: Any) -> Callable[..., list[Any]]:
        """A node that moves within a slice: to whole, or from some shards to others."""
        machine, group = self.engine.machine, have.group
        size = nbytes(shape)
        if wanted.is_fully_replicated:
            seconds = machine.ici_seconds + size / machine.ici_bytes
        elif have.is_fully_replicated:
            seconds = size / len(group) / machine.memory_bytes
        else:
            seconds = machine.ici_seconds + size / len(group) / machine.ici_bytes
        return SimCall(self.engine, group, seconds, [(shape, wanted)])

    def sending(self, parts: tuple[Segment | Expansion, ...]) -> tuple[Segment | Expansion, ...]:
        """Each segment begins with its message, to the hosts of its nodes.

        Raises:
            ProgramError: a conditional node, whose work depends on numbers.
        """
        found: list[Segment | Expansion] = []
        for part in parts:
            if isinstance(part, Expansion):
                raise ProgramError(
                    f"node {part.node.name!r} is conditional: what it does depends on numbers, and "
                    "simulated arrays have none; put computations of a fixed cost in its place"
                )
            hosts: set[int] = set()
            for group in {self._where(step.call) for step in part.steps}:
                hosts.update(group.hosts.tolist())
            first = part.steps[0]
            opening = dataclasses.replace(
                first, call=_opening(first.call, (part.island.name, len(hosts)))
            )
            found.append(dataclasses.replace(part, steps=(opening, *part.steps[1:])))
        return tuple(found)

    def recorder(self) -> Any:
        from .sim_spans import SimRecorder

        return SimRecorder()

    def _where(self, call: Any) -> Group:
        target: Any = call.targets[0] if isinstance(call, SimMover) else call
        return target.group


def _opening(call: Any, message: Message) -> Any:
    """The same call, which sends a message first; the executable's own is shared by programs."""
    copy = object.__new__(type(call))
    copy.__dict__.update(call.__dict__, message=message)
    return copy
