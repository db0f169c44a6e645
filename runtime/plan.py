"""A graph lowered to the devices its slices have now: slots, transfers, and when to let go.

Everything that is static is settled here, once for each program, shapes and mapping, so that a
run only calls compiled functions in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from .graph import Graph, Node, Ref, Shape
from .resources import Island, Slice

# Nodes in a turn. A turn is what the scheduler grants, so it must be short enough to share fairly
# and, as all of it may be gangs, fit the window of collectives.
LONGEST = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One call: leaves out of slots, leaves into slots.

    Attributes:
        call: arrays in, a list of arrays out; a compiled function or a batched transfer.
        inputs: slots.
        outputs: slots.
        drop: slots that nobody needs after it.
        watched: which output shows that it is done; -1 is none.
        node: index in the graph.
        made: bytes of its outputs, all devices together.
        dropped: bytes of what it drops.
        devices: ids, for traces.
        transfer: it only moves.
        parents: nodes that made its inputs, for traces.
    """

    call: Callable[..., list[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drop: tuple[int, ...]
    watched: int
    node: int
    made: int
    dropped: int
    devices: tuple[int, ...]
    transfer: bool
    parents: tuple[int, ...]


@dataclasses.dataclass(slots=True)
class Segment:
    """Steps of one island that are enqueued in one turn.

    Attributes:
        island: where.
        steps: in order.
        gangs: how many run on several devices.
        seconds: how long it took lately; None before it was seen.
    """

    island: Island
    steps: tuple[Step, ...]
    gangs: int
    seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Expansion:
    """A conditional node: its inputs' slots, and where its outputs go."""

    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drop: tuple[int, ...]
    dropped: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run follows.

    Attributes:
        graph: what was lowered.
        parts: segments and expansions, in order.
        slots: how many.
        arguments: for each leaf of the arguments its slot, and the sharding it must have.
        constants: slots and arrays.
        outputs: slots of the program's result.
        sizes: bytes of each slot's array, all devices together; 0 of those that are not ours.
        donated: arguments (by number of the leaf) that the program takes over.
    """

    graph: Graph
    parts: tuple[Segment | Expansion, ...]
    slots: int
    arguments: tuple[tuple[int, Sharding | None], ...]
    constants: tuple[tuple[int, Any], ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]
    donated: frozenset[int]


def lower(graph: Graph) -> Plan:
    """Lowers to the present mapping; compiles what is not compiled yet.

    Raises:
        SliceError, IslandLost: a slice has no devices.
        whatever the compiler raises.
    """
    return _Lowering(graph).plan()


class _Lowering:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.where: dict[Ref, int] = {}  # the slot where a node put its output
        self.copies: dict[tuple[int, Any], int] = {}  # of a slot, by sharding
        self.sharding: dict[int, Sharding | None] = {}  # None: known only when it is there
        self.size: dict[int, int] = {}
        self.made_by: dict[int, int] = {}
        self.constants: list[tuple[int, Any]] = []
        self.fixed: set[int] = set()  # slots of constants
        self.steps: list[Any] = []  # (island, kwargs of a Step) or Expansion's

    def plan(self) -> Plan:
        arguments = []
        wanted = self._first_shardings()
        for node in self.graph.nodes:
            if node.kind == "argument":
                ref = Ref(node.index, 0)
                slot = self._slot(ref, wanted.get(ref), 0, node.index)
                arguments.append((slot, wanted.get(ref)))
            elif node.kind == "constant":
                ref = Ref(node.index, 0)
                sharding = wanted.get(ref)
                value = node.value if sharding is None else jax.device_put(node.value, sharding)
                slot = self._slot(ref, sharding, 0, node.index)
                self.constants.append((slot, value))
                self.fixed.add(slot)
            elif node.kind == "conditional":
                inputs = tuple(self.where[ref] for ref in node.inputs)
                outputs = tuple(
                    self._slot(Ref(node.index, n), None, 0, node.index)
                    for n in range(len(node.outputs))
                )
                self.steps.append((None, node, inputs, outputs))
            else:
                self._call(node)
        outputs = tuple(self.where[ref] for ref in self.graph.outputs)
        parts = self._parts(outputs)
        donated = frozenset(
            node.inputs[place].node
            for node in self.graph.nodes
            for place in node.donated
            if self.graph.nodes[node.inputs[place].node].kind == "argument"
        )
        sizes = tuple(self.size[slot] for slot in range(len(self.size)))
        return Plan(
            self.graph,
            parts,
            len(self.size),
            tuple(arguments),
            tuple(self.constants),
            outputs,
            sizes,
            donated,
        )

    def _first_shardings(self) -> dict[Ref, Sharding]:
        """Where arguments and constants go: to whom they are first given."""
        wanted: dict[Ref, Sharding] = {}
        for node in self.graph.nodes:
            if node.computation is not None:
                shapes = tuple(self.graph.shape(ref) for ref in node.inputs)
                shardings = node.computation.executable(shapes).inputs
                for ref, sharding in zip(node.inputs, shardings, strict=True):
                    wanted.setdefault(ref, sharding)
            elif node.conditional is not None and node.slice is not None:
                for ref in node.inputs[node.conditional.reads :]:
                    # Its nodes may be anywhere: to a place of its own if nobody else says more.
                    if node.conditional.gather:
                        wanted.setdefault(ref, node.slice.sharding())
        return wanted

    def _slot(self, ref: Ref | None, sharding: Sharding | None, size: int, node: int) -> int:
        slot = len(self.size)
        self.size[slot], self.sharding[slot], self.made_by[slot] = size, sharding, node
        if ref is not None:
            self.where[ref] = slot
        return slot

    def _call(self, node: Node) -> None:
        assert node.computation is not None
        assert node.slice is not None
        shapes = tuple(self.graph.shape(ref) for ref in node.inputs)
        executable = node.computation.executable(shapes)
        inputs = self._moved(node, executable.inputs)
        outputs = []
        for n, sharding in enumerate(executable.outputs):
            size = _held(node.outputs[n], sharding)
            outputs.append(self._slot(Ref(node.index, n), sharding, size, node.index))
        self.steps.append(
            (
                node.slice.island,
                {
                    "call": executable.call,
                    "inputs": inputs,
                    "outputs": tuple(outputs),
                    "watched": executable.watched,
                    "node": node.index,
                    "made": executable.made,
                    "devices": tuple(device.id for device in node.slice.devices),
                    "transfer": False,
                },
                executable.gang,
            )
        )

    def _moved(self, node: Node, shardings: Sequence[Sharding]) -> tuple[int, ...]:
        """Slots of the inputs where the node can take them; all that must move, in one batch."""
        inputs, moves = [], []
        for ref, wanted in zip(node.inputs, shardings, strict=True):
            slot = self.where[ref]
            have = self.sharding[slot]
            if have is not None and have == wanted:
                inputs.append(slot)
                continue
            key = (slot, wanted)
            if key not in self.copies:
                if slot in self.fixed:
                    value = dict(self.constants)[slot]
                    self.copies[key] = self._slot(None, wanted, 0, node.index)
                    self.constants.append((self.copies[key], jax.device_put(value, wanted)))
                    self.fixed.add(self.copies[key])
                else:
                    size = _held(self.graph.shape(ref), wanted)
                    self.copies[key] = self._slot(None, wanted, size, self.made_by[slot])
                    moves.append((slot, self.copies[key], wanted))
            inputs.append(self.copies[key])
        if moves:
            targets = [wanted for _, _, wanted in moves]
            part = node.slice
            assert part is not None
            self.steps.append(
                (
                    part.island,
                    {
                        "call": _mover(targets),
                        "inputs": tuple(source for source, _, _ in moves),
                        "outputs": tuple(target for _, target, _ in moves),
                        "watched": 0,
                        "node": node.index,
                        "made": sum(self.size[target] for _, target, _ in moves),
                        "devices": tuple(device.id for device in part.devices),
                        "transfer": True,
                    },
                    False,
                )
            )
        return tuple(inputs)

    def _parts(self, outputs: tuple[int, ...]) -> tuple[Segment | Expansion, ...]:
        last: dict[int, int] = {}
        for place, step in enumerate(self.steps):
            inputs, made = (step[2], step[3]) if step[0] is None else (
                step[1]["inputs"],
                step[1]["outputs"],
            )
            for slot in (*made, *inputs):
                last[slot] = place
        keep = {*outputs, *self.fixed}
        drops: dict[int, list[int]] = {}
        for slot, place in last.items():
            if slot not in keep:
                drops.setdefault(place, []).append(slot)
        parts: list[Segment | Expansion] = []
        run: list[Step] = []
        island, gangs = None, 0

        def close() -> None:
            nonlocal run, gangs
            if run:
                assert island is not None
                parts.append(Segment(island, tuple(run), gangs))
            run, gangs = [], 0

        for place, step in enumerate(self.steps):
            drop = tuple(sorted(drops.get(place, ())))
            dropped = sum(self.size[slot] for slot in drop)
            if step[0] is None:
                close()
                _, node, inputs, made = step
                parts.append(Expansion(node, inputs, made, drop, dropped))
                continue
            where, fields, gang = step
            if where is not island or len(run) == LONGEST:
                close()
                island = where
            parents = tuple(sorted({self.made_by[slot] for slot in fields["inputs"]}))
            run.append(Step(**fields, drop=drop, dropped=dropped, parents=parents))
            gangs += gang
        close()
        return tuple(parts)


def _held(shape: Shape, sharding: Sharding) -> int:
    """Bytes of an array on all its devices together."""
    count = 1
    for n in sharding.shard_shape(shape.shape):
        count *= n
    return count * shape.dtype.itemsize * len(sharding.device_set)


def _mover(targets: list[Sharding]) -> Callable[..., list[Any]]:
    def move(*arrays: Any) -> list[Any]:
        return jax.device_put(list(arrays), targets)

    return move


def slices_of(graph: Graph) -> tuple[Slice, ...]:
    """Those its nodes are on, each once."""
    return tuple(dict.fromkeys(node.slice for node in graph.nodes if node.slice is not None))
