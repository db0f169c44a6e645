"""A graph lowered to the devices its slices have now: slots, transfers, and when to let go.

Everything that is static is settled here, once for each program, shapes and mapping, so that a
run only calls compiled functions in order.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from jax.sharding import Sharding

from .computations import Executable, FlatComputation
from .errors import RuntimeFault
from .faults import fault
from .graph import Graph, Node, Ref, Shape, is_keys, opaque
from .parting import Call, parted
from .resources import Island, Slice
from .steps import GANGS, Expansion, Segment


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
        uses: of each slot that several parts use, by how many.
        versions: the slices it is lowered for, with their versions then.
        blank: the slots of a run that has not begun: constants, else None.
        islands: names of the islands where each slot's bytes are counted.
        homes: the islands it is lowered for, by name, each with its losses then.
        put: places arguments that are elsewhere; the back end's.
    """

    graph: Graph
    parts: tuple[Segment | Expansion, ...]
    slots: int
    arguments: tuple[tuple[int, Sharding | None], ...]
    constants: tuple[tuple[int, Any], ...]
    outputs: tuple[int, ...]
    sizes: tuple[int, ...]
    donated: frozenset[int]
    uses: dict[int, int]
    versions: tuple[tuple[Slice, int], ...]
    blank: list[Any]
    islands: tuple[str, ...]
    homes: dict[str, tuple[Island, int]]
    put: Callable[..., Sequence[Any]]

    @property
    def fresh(self) -> bool:
        """Its slices stand where they stood."""
        # A list: faster than a generator, and this is in front of every call.
        return all([part.version == version for part, version in self.versions])  # noqa: C419


def lower(graph: Graph) -> Plan:
    """Lowers to the present mapping; compiles what is not compiled yet.

    Raises:
        SliceError, IslandLost: a slice has no devices.
        NodeError: a node cannot be compiled; its cause is what the compiler raised.
    """
    return _Lowering(graph).plan()


class _Lowering:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.backend = slices_of(graph)[0].backend
        self.where: dict[Ref, int] = {}  # the slot where a node put its output
        self.copies: dict[tuple[int, Any], int] = {}  # of a slot, by sharding
        self.sharding: dict[int, Sharding | None] = {}  # None: known only when it is there
        self.size: dict[int, int] = {}
        self.made_by: dict[int, int] = {}
        self.island: dict[int, str] = {}
        self.constants: list[tuple[int, Any]] = []
        self.fixed: set[int] = set()  # slots of constants
        self.keys: set[int] = set()  # slots of copies of random keys
        self.aliases: set[int] = set()  # slots of copies that may share memory with their source
        self.steps: list[Call] = []
        self.behind: dict[int, frozenset[int]] = {}  # by slot: conditional nodes in front of it

    def plan(self) -> Plan:
        arguments = []
        # Before anything is compiled: a change of the mapping meanwhile makes the plan stale.
        versions = tuple((part, part.version) for part in slices_of(self.graph))
        homes = {part.island.name: (part.island, part.island.losses) for part, _ in versions}
        wanted = self._first_shardings()
        for node in self.graph.nodes:
            if node.kind == "argument":
                ref = Ref(node.index, 0)
                slot = self._slot(ref, wanted.get(ref), 0, node.index)
                arguments.append((slot, wanted.get(ref)))
            elif node.kind == "constant":
                ref = Ref(node.index, 0)
                sharding = wanted.get(ref)
                value = node.value if sharding is None else self._put(node.value, sharding)
                slot = self._slot(ref, sharding, 0, node.index)
                self.constants.append((slot, value))
                self.fixed.add(slot)
            elif node.kind == "conditional":
                assert node.slice is not None
                inputs = self._conditional_inputs(node, node.slice)
                outputs = tuple(
                    # Its bytes are counted when it is there.
                    self._slot(
                        Ref(node.index, n),
                        None if opaque(shape) else node.slice.sharding(),
                        0,
                        node.index,
                        node.slice,
                    )
                    for n, shape in enumerate(node.outputs)
                )
                self._put_behind(outputs, inputs, {node.index})
                self.steps.append(Call(None, node.index, inputs, outputs, expands=node))
            else:
                self._call(node)
        outputs = tuple(self.where[ref] for ref in self.graph.outputs)
        donated = frozenset(
            node.inputs[place].node
            for node in self.graph.nodes
            for place in node.donated
            if self.graph.nodes[node.inputs[place].node].kind == "argument"
        )
        lent = {*self.fixed, *self.aliases, *(slot for slot, _ in arguments)}
        # Two segments fit the window, so that one is enqueued while the other runs.
        windows = [part.system.schedulers[part.island.name].window for part, _ in versions]
        gangs = min(GANGS, *(max(1, window // 2) for window in windows))
        parts, uses = parted(
            self.steps,
            outputs,
            self.fixed,
            lent,
            self.size,
            self.made_by,
            gangs,
            self.backend.longest,
        )
        sizes = tuple(self.size[slot] for slot in range(len(self.size)))
        blank: list[Any] = [None] * len(sizes)
        for slot, value in self.constants:
            blank[slot] = value
        return Plan(
            self.graph,
            self.backend.sending(parts),
            len(self.size),
            tuple(arguments),
            tuple(self.constants),
            outputs,
            sizes,
            donated,
            uses,
            versions,
            blank,
            tuple(self.island[slot] for slot in range(len(sizes))),
            homes,
            self.backend.put,
        )

    def _put(self, value: Any, sharding: Sharding) -> Any:
        return self.backend.put([value], [sharding])[0]

    def _executable(
        self, node: Node, flat: FlatComputation, shapes: tuple[Shape, ...]
    ) -> Executable:
        try:
            return flat.executable(shapes)
        except RuntimeFault:
            raise
        except Exception as error:
            raise fault(self.graph, node.index, error) from error

    def _first_shardings(self) -> dict[Ref, Sharding]:
        """Where arguments and constants go: to whom they are first given."""
        wanted: dict[Ref, Sharding] = {}
        for node in self.graph.nodes:
            if node.computation is not None:
                shapes = tuple(self.graph.shape(ref) for ref in node.inputs)
                shardings = self._executable(node, node.computation, shapes).inputs
                for ref, sharding in zip(node.inputs, shardings, strict=True):
                    wanted.setdefault(ref, sharding)
            elif node.conditional is not None and node.slice is not None:
                for ref in node.inputs:
                    if not opaque(self.graph.shape(ref)):
                        wanted.setdefault(ref, node.slice.sharding())
        return wanted

    def _slot(
        self,
        ref: Ref | None,
        sharding: Sharding | None,
        size: int,
        node: int,
        part: Slice | None = None,
    ) -> int:
        slot = len(self.size)
        self.size[slot], self.sharding[slot], self.made_by[slot] = size, sharding, node
        self.island[slot] = "" if part is None else part.island.name
        self.behind[slot] = frozenset()
        if ref is not None:
            self.where[ref] = slot
        return slot

    def _call(self, node: Node) -> None:
        assert node.computation is not None
        assert node.slice is not None
        shapes = tuple(self.graph.shape(ref) for ref in node.inputs)
        executable = self._executable(node, node.computation, shapes)
        inputs = self._moved(node, node.inputs, executable.inputs)
        outputs = []
        for n, sharding in enumerate(executable.outputs):
            size = held_bytes(node.outputs[n], sharding)
            slot = self._slot(Ref(node.index, n), sharding, size, node.index, node.slice)
            outputs.append(slot)
        self._put_behind(outputs, inputs)
        self.steps.append(
            Call(
                node.slice,
                node.index,
                inputs,
                tuple(outputs),
                call=executable.call,
                watched=executable.watched,
                donated=tuple(inputs[place] for place in node.donated),
                gang=executable.gang,
            )
        )

    def _put_behind(
        self, outputs: Sequence[int], inputs: Sequence[int], own: Collection[int] = ()
    ) -> None:
        behind = frozenset(own).union(*(self.behind[slot] for slot in inputs))
        self.behind.update(dict.fromkeys(outputs, behind))

    def _conditional_inputs(self, node: Node, part: Slice) -> tuple[int, ...]:
        """Slots of its inputs; what the host only reads, or is no array, stays where it is."""
        assert node.conditional is not None
        reads = node.conditional.reads
        places = [
            place
            for place, ref in enumerate(node.inputs)
            if place >= reads and not opaque(self.graph.shape(ref))
        ]
        refs = [node.inputs[place] for place in places]
        moved = self._moved(node, refs, [part.sharding()] * len(refs))
        found = dict(zip(places, moved, strict=True))
        return tuple(found.get(n, self.where[ref]) for n, ref in enumerate(node.inputs))

    def _moved(
        self, node: Node, refs: Sequence[Ref], shardings: Sequence[Sharding]
    ) -> tuple[int, ...]:
        """Slots of inputs where the node can take them; all that must move, in one batch."""
        inputs, moves = [], []
        for ref, wanted in zip(refs, shardings, strict=True):
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
                    self.constants.append((self.copies[key], self._put(value, wanted)))
                    self.fixed.add(self.copies[key])
                else:
                    self._copy(node, ref, slot, wanted, moves)
            inputs.append(self.copies[key])
        if moves:
            self._move(node, moves)
        return tuple(inputs)

    def _copy(
        self,
        node: Node,
        ref: Ref,
        slot: int,
        wanted: Sharding,
        moves: list[tuple[int, int, Sharding]],
    ) -> None:
        """A copy of a slot: by a node that spreads it anew, or by one of the moves to be made."""
        have, home = self.sharding[slot], self.graph.nodes[self.made_by[slot]].slice
        key, shape = (slot, wanted), self.graph.shape(ref)
        if have is not None and home is not None and len(have.device_set) > 1:
            same = have.device_set == wanted.device_set
            if same or not (have.is_fully_replicated or self.backend.moves_shards):
                # To other devices it goes whole.
                target = wanted if same else home.sharding()
                if (slot, target) not in self.copies:
                    copy = self._copy_slot(slot, shape, target, home)
                    call = self.backend.respread(shape, have, target)
                    self._put_behind([copy], [slot])
                    watched = -1 if copy in self.keys else 0
                    self.steps.append(
                        Call(
                            home,
                            node.index,
                            (slot,),
                            (copy,),
                            call,
                            watched,
                            gang=True,
                            transfer=True,
                        )
                    )
                if not same:
                    self._copy(node, ref, self.copies[slot, target], wanted, moves)
                    self.copies[key] = self.copies[self.copies[slot, target], wanted]
                return
        copy = self._copy_slot(slot, shape, wanted, node.slice)
        moves.append((slot, copy, wanted))
        if have is None or have.device_set & wanted.device_set:
            self.aliases.add(copy)

    def _copy_slot(self, slot: int, shape: Shape, wanted: Sharding, part: Slice | None) -> int:
        size = held_bytes(shape, wanted)
        copy = self.copies[slot, wanted] = self._slot(None, wanted, size, self.made_by[slot], part)
        if is_keys(shape):
            self.keys.add(copy)
        return copy

    def _move(self, node: Node, moves: Sequence[tuple[int, int, Sharding]]) -> None:
        """Copies from slot to slot: those that wait for the same reads in one batch."""
        batches: dict[frozenset[int], list[tuple[int, int, Sharding]]] = {}
        for move in moves:
            self.behind[move[1]] = self.behind[move[0]]
            batches.setdefault(self.behind[move[0]], []).append(move)
        for batch in batches.values():
            sources, targets, shardings = zip(*batch, strict=True)
            self.steps.append(
                Call(
                    node.slice,
                    node.index,
                    sources,
                    targets,
                    call=self.backend.mover(shardings),
                    watched=next((n for n, t in enumerate(targets) if t not in self.keys), -1),
                    transfer=True,
                )
            )


def held_bytes(shape: Shape, sharding: Sharding) -> int:
    """Bytes of an array on all its devices together."""
    count = 1
    for n in sharding.shard_shape(shape.shape):
        count *= n
    return count * shape.dtype.itemsize * len(sharding.device_set)


def slices_of(graph: Graph) -> tuple[Slice, ...]:
    """Those its nodes are on, each once."""
    return tuple(dict.fromkeys(node.slice for node in graph.nodes if node.slice is not None))
