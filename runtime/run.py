"""One execution of a plan: sends what can be sent, reads what must be read, never waits else."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .conditional import Ahead, Wake, expands_itself
from .errors import Cancelled, IslandLost, ProgramError, RuntimeFault, RunTimeout, ValueReleased
from .faults import again, fault, said
from .graph import Node
from .slots import Slots
from .steps import Expansion, Segment, Step
from .telling import tell_given, tell_read, tell_step
from .values import Value
from .waiting import is_gone

if TYPE_CHECKING:
    from .client import Client
    from .plan import Plan
    from .resources import Island
    from .scheduler import Turn
    from .system import Runtime


class Run(Slots):
    """A program that was called.

    Its parts are sent in order by whatever thread comes by, under the run's lock: the one that
    called it, as far as nothing must be read; then those that ask for its results, or that call
    other programs of the same client.
    """

    def __init__(self, system: Runtime, plan: Plan, client: Client):
        super().__init__(system, plan, client)
        self._todo: Sequence[int] = range(len(plan.parts))
        self._known: set[int] = set()  # parts that were conditional and are expanded
        self._sending = False
        self._lock = threading.RLock()
        self._values: list[weakref.ref[Value]] = []
        self._woken = len(plan.graph.nodes)  # keys of woken nodes, in traces
        self._asked: dict[int, float] = {}  # when a wait for a conditional node's read began

    # What the program that was called does.

    def start(self, leaves: Sequence[Any]) -> list[Value]:
        """Places the arguments and sends all that depends on no data; gives the results' futures.

        Raises:
            what an argument that is a future raises; a client's error if it has left.
        """
        plan, slots = self.plan, self._slots
        if plan.donated:
            self._finish_users([leaves[n] for n in plan.donated])
        if self.system.recorder is not None:
            tell_given(self, leaves)
        moves = []
        for n, (leaf, (slot, sharding)) in enumerate(zip(leaves, plan.arguments, strict=True)):
            array = leaf.array() if type(leaf) is Value else leaf
            if is_gone(array):
                raise ValueReleased(
                    f"{plan.graph.arguments[n].name} of program {plan.graph.name!r} is an array "
                    "that was donated or deleted: pass what the program it was donated to returned"
                )
            if sharding is not None:
                there = getattr(array, "sharding", None)
                if there is not sharding and there != sharding:
                    moves.append((slot, array, sharding))
                    continue
            elif isinstance(array, (bool, int, float, complex, np.generic, np.ndarray)):
                array = jnp.asarray(array)  # no node takes it, but it may be a result
            slots[slot] = array
        if moves:
            places, arrays, shardings = zip(*moves, strict=True)
            for slot, array in zip(places, plan.put(arrays, shardings), strict=True):
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
                self.keep_in_mind([leaf._array if type(leaf) is Value else leaf for leaf in leaves])
                client.runs.add(self)
        for n in plan.donated:
            if type(leaves[n]) is Value:
                leaves[n].release("it was donated")
        if client.closed:  # by another thread, which may not have seen this run
            self.cancel("its client left")
            for value in values:
                value.release(f"its client {client.name!r} left")
        return values

    def advance(self) -> bool:
        """Sends what has become possible, unless another thread is at it; whether it sent any."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._sending:  # this thread is in it already: a node that wakes calls a program
                return False
            if self._todo and not self._wanted():
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
        self._drive(lambda: value.unknown, timeout)

    def finish(self) -> None:
        """Sends all of it, waiting for what must be read."""
        self._drive(lambda: True, None)

    def _drive(self, wanted: Callable[[], bool], timeout: float | None) -> None:
        limit = self.system.patience if timeout is None else timeout
        if not self._lock.acquire(timeout=-1 if limit is None else limit):
            raise RunTimeout(f"another thread was still sending {self!r} after {limit:g} s")
        try:
            while self._todo and wanted():
                if self._sending:
                    raise ProgramError(f"a node of {self!r} asked for a result that needs the node")
                self._advance()
                # While one read is on its way, other runs of this client may go on.
                if self._todo and wanted() and not self.client.advance_others(self):
                    self._wait_for_read(timeout)
        finally:
            self._lock.release()

    def cancel(self, why: str) -> None:
        """What was not sent will not be. Never waits."""
        self._stop = self._stop or Cancelled(f"{self!r} was cancelled: {why}")
        self.advance()

    def lose(self) -> None:
        """An island is lost: what was on it is poison from now on. Never waits."""
        self._ill = True
        self.advance()

    def _finish_users(self, leaves: Sequence[Any]) -> None:
        """Sends all of the runs that were called before and need what this one takes over.

        No lock is held: what another thread is sending is waited for.
        """
        arrays = []
        for leaf in leaves:
            if type(leaf) is Value:
                leaf.finish()
                leaf = leaf.array()
            arrays.append(leaf)
        for client in self.system.everyone():
            for run in list(client.runs):
                if run.may_use(arrays):
                    run.finish()

    # Sending; all under the lock.

    def _advance(self) -> None:
        self._sending = True
        try:
            self._send_parts()
        except BaseException as error:  # an interrupt, most likely: half a part may be sent
            self._stop = Cancelled(f"{self!r} was cut short by {said(error)}")
            self._slots[:] = [self._stop] * len(self._slots)
            self._todo = ()
            raise
        finally:
            self._sending = False
            for scheduler in [*self.system.schedulers.values()]:
                scheduler.post()
            self._deliver()

    def _send_parts(self) -> None:
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
                elif (ahead := expands_itself(self, part)) or self._readable(part):
                    self._expand(part, ahead)
                    self._known.add(place)
                    went = True
                else:
                    left.append(place)
            self._todo = left

    def _segment(self, part: Segment) -> None:
        system, island = self.system, part.island
        try:
            self._check_island(island)
            scheduler = system.schedulers[island.name]
            system.store.reserve(island, self, self.segment_name(part), part.peak, scheduler)
            self._holding.reserved(island.name, part.peak, part.change)
            with scheduler.turn(self, part, part.gangs, part.seconds) as turn:
                self._send(part, turn)
        except RuntimeFault as error:
            outputs = [slot for step in part.steps for slot in step.outputs]
            self._give_up([slot for slot in outputs if self._slots[slot] is None], error)
        for slot in part.reads:
            array = self._slots[slot]
            if not isinstance(array, BaseException) and not is_gone(array):
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
                self._fail(step, error)
                continue
            for slot, out in zip(step.outputs, outs, strict=True):
                slots[slot] = out
            if step.watched >= 0:
                sent.append((step.node, outs[step.watched]))
            if careful and not self._look_closely(step, outs, began, part.island):
                continue
            for slot in step.drop:
                slots[slot] = None

    def _check_island(self, island: Island) -> None:
        self.check_going()
        if self.lost(island.name):
            raise IslandLost(f"island {island.name!r} is lost, and {self!r} needed it")

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
            self._fail(step, error)
            return False
        return True

    # Conditional nodes.

    def _readable(self, part: Expansion) -> bool:
        conditional = part.node.conditional
        assert conditional is not None
        if self._stop is not None or (self._ill and self._poison(part.inputs) is not None):
            return True
        return all(self._slots[slot].is_ready() for slot in part.inputs[: conditional.reads])

    def _wait_for_read(self, timeout: float | None) -> None:
        for place in self._todo:
            part = self.plan.parts[place]
            if isinstance(part, Expansion) and part.needs <= self._known:
                conditional = part.node.conditional
                assert conditional is not None
                self._asked[part.node.index] = time.perf_counter()
                try:
                    for slot in part.inputs[: conditional.reads]:
                        self.wait(self._slots[slot], part.node.index, timeout)
                except RunTimeout:
                    raise
                except RuntimeFault:
                    pass  # the expansion meets it again, and poisons what depends on it
                return

    def _expand(self, part: Expansion, ahead: Ahead | None) -> None:
        node, slots = part.node, self._slots
        assert node.conditional is not None
        assert node.slice is not None
        island = node.slice.island
        given = [slots[slot] for slot in part.inputs]
        try:
            self._check_island(island)
            poison = self._poison(part.inputs) if self._ill else None
            if poison is not None:
                raise again(poison) from poison.__cause__
            reads = 0 if ahead else node.conditional.reads
            read = [self.read(array, node) for array in given[:reads]]
            with self._holding.foreseen(self, node), Wake(self, node, part, given) as wake:
                outs = ahead(wake) if ahead else node.conditional.expand(wake, read, given[reads:])
            for slot, out in zip(part.outputs, outs, strict=True):
                slots[slot] = out
                self._holding.fill(slot, out, island.name)
        except RuntimeFault as error:
            self._give_up(part.outputs, error)
        except Exception as error:
            found = self.failed[node.index] = fault(self.plan.graph, node.index, error)
            self._give_up(part.outputs, found)
        for slot in part.drop:
            self._drop(slot)
        self._used(part.shared)

    def read(self, array: Any, node: Node) -> np.ndarray:
        """An array as the host has it; waits for it."""
        now = time.perf_counter()
        self.wait(array, node.index, None)
        found = np.asarray(array)
        if self.system.recorder is not None:
            tell_read(self, node, self._asked.pop(node.index, now))
        return found

    def next_key(self) -> int:
        """Of a woken node, in traces."""
        self._woken += 1
        return self._woken

    # Results.

    def _wanted(self) -> bool:
        """Whether anybody holds a result that is not known yet."""
        values = [ref() for ref in self._values]
        return any(value is not None and value.unknown for value in values)

    def _deliver(self) -> None:
        """Results that are known go to their futures; with the last of them all is forgotten."""
        slots, done = self._slots, not self._todo
        if not slots:
            return
        for n, slot in enumerate(self.plan.outputs):
            found, value = slots[slot], self._values[n]()
            if value is not None and (found is not None or done):
                # Until all is sent, the bytes are in the run's own account.
                held = done and not isinstance(found, BaseException)
                value.set(found, self._holding.give(slot) if held else 0)
        if done:
            self.client.runs.discard(self)
            self._holding.close()
            self._given = ()
            # Emptied and not only let go: the frames of an exception that was kept refer to it.
            slots.clear()
