"""One execution of a plan: sends what can be sent, reads what must be read, never waits else."""

from __future__ import annotations

import threading
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .conditional import Wake
from .errors import Cancelled, IslandLost, NodeError, NotFiniteError, RuntimeFault
from .finite import not_finite
from .graph import Node
from .steps import Expansion, Segment, Step
from .telling import tell_given, tell_read, tell_step
from .values import Value
from .waiting import wait_ready

if TYPE_CHECKING:
    from .client import Client
    from .plan import Plan
    from .resources import Island
    from .scheduler import Turn
    from .system import Runtime


class Run:
    """A program that was called.

    Its parts are sent in order by whatever thread comes by, under the run's lock: the one that
    called it, as far as nothing must be read; then those that ask for its results, or that call
    other programs of the same client.

    Attributes:
        system: the runtime.
        plan: what it follows.
        client: in whose name.
        number: of this run, in traces.
        failed: what nodes raised, by index.
    """

    def __init__(self, system: Runtime, plan: Plan, client: Client):
        self.system, self.plan, self.client = system, plan, client
        self.number = system.next_number()
        self.failed: dict[int, BaseException] = {}
        self._slots: list[Any] = plan.blank.copy()
        self._todo: Sequence[int] = range(len(plan.parts))
        self._known: set[int] = set()  # parts that were conditional and are expanded
        self._left = dict(plan.uses)
        self._held: Counter[str] = Counter()  # bytes by island
        self._dynamic: dict[int, int] = {}  # bytes of slots that conditional nodes filled
        self._stop: RuntimeFault | None = None
        self._ill = False  # some slot holds an exception
        self._lock = threading.RLock()
        self._values: list[weakref.ref[Value] | None] = []
        self._woken = len(plan.graph.nodes)  # keys of woken nodes, in traces
        self._asked: dict[int, float] = {}  # when a wait for a conditional node's read began

    # What the program that was called does.

    def start(self, leaves: Sequence[Any]) -> list[Value]:
        """Places the arguments and sends all that depends on no data; gives the results' futures.

        Raises:
            what an argument that is a future raises; a client's error if it has left.
        """
        plan, slots = self.plan, self._slots
        if self.system.recorder is not None:
            tell_given(self, leaves)
        moves = []
        for leaf, (slot, sharding) in zip(leaves, plan.arguments, strict=True):
            array = leaf.array() if type(leaf) is Value else leaf
            if sharding is not None:
                there = getattr(array, "sharding", None)
                if there is not sharding and there != sharding:
                    moves.append((slot, array, sharding))
                    continue
            slots[slot] = array
        if moves:
            places, arrays, shardings = zip(*moves, strict=True)
            for slot, array in zip(places, jax.device_put(arrays, shardings), strict=True):
                slots[slot] = array
        graph, client = plan.graph, self.client
        values = [
            Value(self, ref.node, graph.nodes[ref.node].outputs[ref.output], client)
            for ref in graph.outputs
        ]
        self._values = [weakref.ref(value) for value in values]
        with self._lock:
            self._advance()
            if self._todo:
                client.runs.add(self)
        for n in plan.donated:
            if type(leaves[n]) is Value:
                leaves[n].release("it was donated")
        return values

    def advance(self) -> bool:
        """Sends what has become possible, unless another thread is at it; whether it sent any."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._todo and all(ref is None or ref() is None for ref in self._values):
                self._stop = self._stop or Cancelled(f"nobody holds the results of {self!r}")
            before = len(self._todo)
            self._advance()
            return len(self._todo) < before
        finally:
            self._lock.release()

    def drive(self, value: Value, timeout: float | None = None) -> None:
        """Sends until this result is known, waiting for reads that are in front of it.

        Raises:
            RunTimeout: a read took longer than `timeout`.
        """
        with self._lock:
            while value.unknown and self._todo:
                self._advance()
                if not value.unknown or not self._todo:
                    return
                # While one read is on its way, other runs of this client may go on.
                if self.client.advance_others(self):
                    continue
                self._wait_for_read(timeout)

    def cancel(self, why: str) -> None:
        """What was not sent will not be. Never waits."""
        self._stop = self._stop or Cancelled(f"{self!r} was cancelled: {why}")
        self.advance()

    def check_going(self) -> None:
        """Raises what has stopped this run."""
        if self._stop is not None:
            raise self._stop

    # Sending; all under the lock.

    def _advance(self) -> None:
        parts = self.plan.parts
        went = bool(self._todo)
        while went and self._todo:
            went, left = False, []
            for place in self._todo:
                part = parts[place]
                if not part.needs <= self._known:
                    left.append(place)
                elif isinstance(part, Segment):
                    self._segment(part)
                    went = True
                elif self._readable(part):
                    self._expand(part)
                    self._known.add(place)
                    went = True
                else:
                    left.append(place)
            self._todo = left
        self._deliver()

    def _segment(self, part: Segment) -> None:
        system, island = self.system, part.island
        scheduler = system.schedulers[island.name]
        try:
            if self._stop is not None:
                raise self._stop
            if island.lost:
                raise IslandLost(f"island {island.name!r} is lost, and {self!r} needed it")
            name = self.plan.graph.nodes[part.steps[0].node].name
            system.store.reserve(island, self, name, part.peak, scheduler)
            self._held[island.name] += part.change
            if part.peak != part.change:
                system.store.note(island.name, self.client.name, part.change - part.peak)
            with scheduler.turn(self, part, part.gangs, part.seconds) as turn:
                self._send(part, turn)
        except RuntimeFault as error:
            self._ill = True
            for step in part.steps:
                for slot in step.outputs:
                    if self._slots[slot] is None:
                        self._slots[slot] = error
        for slot in part.reads:
            array = self._slots[slot]
            if not isinstance(array, BaseException):
                array.copy_to_host_async()
        if part.shared:
            self._used(part.shared)

    def _send(self, part: Segment, turn: Turn) -> None:
        slots, sent, system = self._slots, turn.nodes, self.system
        careful = system.recorder is not None or system.checks or system.sequential
        for step in part.steps:
            if self._ill and self._poisoned(step):
                continue
            try:
                began = time.perf_counter() if careful else 0.0
                outs = step.call(*[slots[slot] for slot in step.inputs])
            except Exception as error:
                self._fail(step, error, part.island)
                continue
            for slot, out in zip(step.outputs, outs, strict=True):
                slots[slot] = out
            if step.watched >= 0:
                sent.append((step.node, outs[step.watched]))
            if careful and not self._look_closely(step, outs, began, part.island):
                continue
            for slot in step.drop:
                slots[slot] = None

    def _poisoned(self, step: Step) -> bool:
        slots = self._slots
        for slot in step.inputs:
            if isinstance(slots[slot], BaseException):
                for out in step.outputs:
                    slots[out] = slots[slot]
                return True
        return False

    def _fail(self, step: Step, error: Exception, island: Island) -> None:
        node = self.plan.graph.nodes[step.node]
        if not isinstance(error, NodeError):
            fault = NodeError(_said(error), self.plan.graph.name, node.name, island.name)
            fault.__cause__ = error
            error = fault
        self.failed[step.node], self._ill = error, True
        for slot in step.outputs:
            self._slots[slot] = error

    def _look_closely(self, step: Step, outs: list[Any], began: float, island: Island) -> bool:
        """Traces, checks and sequential dispatch; false if the node turned out to be ill."""
        system = self.system
        if system.recorder is not None:
            tell_step(self, step, outs, began, island)
        try:
            if system.checks and not step.transfer:
                self.check_finite(step.node, outs, self.plan.graph.nodes[step.node].name)
            if system.sequential:
                jax.block_until_ready(outs)
        except Exception as error:
            self._fail(step, error, island)
            return False
        return True

    # Conditional nodes.

    def _readable(self, part: Expansion) -> bool:
        conditional = part.node.conditional
        assert conditional is not None
        if self._ill or self._stop is not None:
            return True
        return all(self._slots[slot].is_ready() for slot in part.inputs[: conditional.reads])

    def _wait_for_read(self, timeout: float | None) -> None:
        for place in self._todo:
            part = self.plan.parts[place]
            if isinstance(part, Expansion) and part.needs <= self._known:
                conditional = part.node.conditional
                assert conditional is not None
                self._asked[part.node.index] = time.perf_counter()
                for slot in part.inputs[: conditional.reads]:
                    self._await(self._slots[slot], part.node, timeout)
                return

    def _expand(self, part: Expansion) -> None:
        node, slots = part.node, self._slots
        assert node.conditional is not None
        assert node.slice is not None
        island = node.slice.island
        given = [slots[slot] for slot in part.inputs]
        try:
            for value in given:
                if isinstance(value, BaseException):
                    raise value
            if self._stop is not None:
                raise self._stop
            if island.lost:
                raise IslandLost(f"island {island.name!r} is lost, and {self!r} needed it")
            reads = node.conditional.reads
            read = [self.read(array, node) for array in given[:reads]]
            wake = Wake(self, node, part, given)
            try:
                outs = node.conditional.expand(wake, read, given[reads:])
            finally:
                wake.end_turn()
            self._take(part, outs, island)
        except RuntimeFault as error:
            self._ill_all(part, error)
        except Exception as error:
            fault = NodeError(_said(error), self.plan.graph.name, node.name, island.name)
            fault.__cause__ = error
            self.failed[node.index] = fault
            self._ill_all(part, fault)
        for slot in part.drop:
            self._drop(slot)
        self._used(part.shared)

    def _take(self, part: Expansion, outs: Sequence[Any], island: Island) -> None:
        for slot, out in zip(part.outputs, outs, strict=True):
            self._slots[slot] = out
            size = sum(leaf.nbytes for leaf in jax.tree.leaves(out) if hasattr(leaf, "nbytes"))
            self._dynamic[slot] = size
            self._held[island.name] += size
            self.system.store.note(island.name, self.client.name, size)

    def _ill_all(self, part: Expansion, error: BaseException) -> None:
        self._ill = True
        for slot in part.outputs:
            self._slots[slot] = error

    def read(self, array: Any, node: Node) -> np.ndarray:
        """An array as the host has it; waits for it."""
        now = time.perf_counter()
        self._await(array, node, None)
        found = np.asarray(array)
        if self.system.recorder is not None:
            tell_read(self, node, self._asked.pop(node.index, now))
        return found

    def next_key(self) -> int:
        """Of a woken node, in traces."""
        self._woken += 1
        return self._woken

    # Slots.

    def last_use(self, part: Expansion, slot: int) -> bool:
        """Whether nobody else will read this slot."""
        return slot in part.drop or (slot in part.shared and self._left[slot] == 1)

    def _used(self, shared: Sequence[int]) -> None:
        for slot in shared:
            self._left[slot] -= 1
            if not self._left[slot]:
                self._drop(slot)

    def _drop(self, slot: int) -> None:
        """Forgets a slot whose bytes no segment has counted as dropped."""
        self._slots[slot] = None
        size = self._dynamic.pop(slot, 0) or self.plan.sizes[slot]
        if size:
            island = self.island_of_slot(slot)
            self._held[island] -= size
            self.system.store.note(island, self.client.name, -size)

    def island_of_slot(self, slot: int) -> str:
        """The name of the island where it is counted."""
        return self.plan.islands[slot]

    def _deliver(self) -> None:
        """Results that are known go to their futures; with the last of them all is forgotten."""
        slots, done = self._slots, not self._todo
        for n, slot in enumerate(self.plan.outputs):
            ref = self._values[n]
            if ref is None:
                continue
            found = slots[slot]
            if found is None and not done:
                continue
            value, self._values[n] = ref(), None
            if value is not None:
                value.set(found, self._dynamic.get(slot) or self.plan.sizes[slot])
        if done and slots:
            self.client.runs.discard(self)
            for island, held in self._held.items():
                if held:
                    self.system.store.note(island, self.client.name, -held)
            self._held.clear()
            self._slots, self._left = [], {}

    # Waiting and looking, without the lock.

    def wait(self, array: Any, node: int, timeout: float | None = None) -> None:
        """Waits for a result that was sent.

        Raises:
            NodeError: it failed, or what it depends on.
            RunTimeout: it is not there in time.
        """
        limit = self.system.patience if timeout is None else timeout
        try:
            wait_ready(array, limit, lambda: self.node_name(node))
        except RuntimeFault:
            raise
        except Exception as error:
            raise self._blame(node, error) from error
        self.system.settle()

    def wait_for(self, array: Any, node: int, patience: float | None) -> None:
        """Waits until something in flight ends, well or not."""
        try:
            wait_ready(array, patience, lambda: self.node_name(node))
        except RuntimeFault:
            raise
        except Exception:
            pass  # `look` keeps it, and who asks for the result is told

    def _await(self, array: Any, node: Node, timeout: float | None) -> None:
        self.wait(array, node.index, timeout)

    def look(self, node: int, array: Any) -> None:
        """Keeps what a node that has ended raised."""
        try:
            array.block_until_ready()
        except Exception as error:
            if not array.is_deleted():
                self.failed.setdefault(node, error)

    def check_finite(self, node: int, outs: Sequence[Any], name: str) -> None:
        """Raises NotFiniteError if there is a NaN or an infinity among them."""
        bad = not_finite(outs)
        if bad is not None:
            island = self.island_of(node)
            raise NotFiniteError(
                f"output {bad} is not finite",
                self.plan.graph.name,
                name,
                "none" if island is None else island.name,
            )

    def _blame(self, node: int, error: Exception) -> NodeError:
        """The error of the first node, among this one and what it depends on, that failed."""
        self.system.settle()
        graph = self.plan.graph
        seen, todo = {node}, [node]
        while todo:
            for ref in graph.nodes[todo.pop()].inputs:
                if ref.node not in seen:
                    seen.add(ref.node)
                    todo.append(ref.node)
        culprit = min((n for n in seen if n in self.failed), default=node)
        found = self.failed.get(culprit, error)
        if isinstance(found, NodeError):
            return found
        island = self.island_of(culprit)
        where = "none" if island is None else island.name
        return NodeError(_said(found), graph.name, graph.nodes[culprit].name, where)

    # Names.

    def island_of(self, node: int) -> Island | None:
        """Where a node is; None of arguments and constants."""
        part = self.plan.graph.nodes[node].slice
        return None if part is None else part.island

    def island_name(self, node: int) -> str:
        """Its name; "" of arguments and constants."""
        island = self.island_of(node)
        return "" if island is None else island.name

    def node_name(self, node: int) -> str:
        """For messages."""
        graph = self.plan.graph
        return f"node {graph.nodes[node].name!r} of program {graph.name!r}"

    def __repr__(self) -> str:
        return f"run {self.number} of program {self.plan.graph.name!r}"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}"
