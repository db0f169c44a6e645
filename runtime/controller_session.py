"""One client at the controller: what it sent, in order, and what it asked for.

A thread reads; what is to be done in order is done by a second, in the name of the client; what
only waits for results is done by others, so that it holds up nothing.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jax

from .attach_faults import pack_fault
from .attach_values import packed, tree_of
from .attach_wire import Line
from .branches import Branches
from .controller_answers import Answers, Failed
from .errors import ProgramError, ValueReleased
from .faults import bare
from .ray_wire import from_wire
from .values import Value
from .waiting import fetched, is_gone, is_ready

if TYPE_CHECKING:
    from .client import Client
    from .controller import Controller

# Seconds without a sign of life, after which a client is taken for dead. One whose process ends is
# noticed at once: its line does.
SILENCE = 60.0
# Threads that wait for results of one client, and as many that look whether they are there.
WAITING = 8
# Seconds that the last call of a client that left is waited for.
LAST_CALL = 10.0
# Seconds for a client to take the last word, before it is hung up on.
LAST_WORD = 1.0
# So many calls are acknowledged together, at most.
TOGETHER = 8


class Session:
    """A client's.

    Attributes:
        client: of the runtime, in whose name all is done.
        line: to it.
        since: when it came, in seconds since 1970.
        calls: programs that it has called.
        table: values, arrays and banks by the client's number; by ours, which are below 0, what it
            took by name.
        plans: by the client's number: program, structure of its arguments, number of results.
    """

    def __init__(self, controller: Controller, line: Line, client: Client):
        self._controller, self.line, self.client = controller, line, client
        self.since, self.calls = time.time(), 0
        self.table: dict[int, Any] = {}
        self.plans: dict[int, tuple[Any, Any, int]] = {}
        self._work: queue.SimpleQueue[tuple[Callable[..., None], tuple] | None] = (
            queue.SimpleQueue()
        )
        self._queued = self._done = self._last = 0
        self._progress = threading.Condition()
        self._waiting = ThreadPoolExecutor(WAITING, f"byways {client.name} waits")
        self._looking = ThreadPoolExecutor(WAITING, f"byways {client.name} looks")
        self._answers = Answers(controller, self)
        self._runs = self._closed = False
        self._worker = threading.Thread(
            target=self._in_order, name=f"byways {client.name}", daemon=True
        )
        self._worker.start()

    # Reading.

    def run(self) -> None:
        """Takes messages until the client leaves, or its line ends.

        Whatever may wait is done by other threads: in this one, it would look like the client's
        silence.
        """
        try:
            self.line.expect(SILENCE)
            self._runs = True
            while True:
                what, *rest = self.line.receive()
                if what == "leave":
                    return
                if what == "ask":
                    number, question, *args = rest
                    self._take_question(number, question, args)
                elif what != "free" or rest[0]:
                    self._enqueue(getattr(self, "_" + what), rest)
        except TimeoutError:
            self.end(f"has not heard of this client for {SILENCE:g} s")
        except (EOFError, OSError):
            pass
        finally:
            self.close()

    def _take_question(self, number: int, question: str, args: list[Any]) -> None:
        after = self._queued
        with contextlib.suppress(RuntimeError):  # it has closed meanwhile
            if question in ("fetch", "finish"):
                self._waiting.submit(self._answer, number, self._later, (question, after, args))
            elif question == "ready":
                self._looking.submit(self._answer, number, self._ready, (after, *args))
            else:
                ask = getattr(self._answers, "ask_" + question.replace(" ", "_"))
                self._enqueue(self._answer, (number, ask, args))

    def _enqueue(self, work: Callable[..., None], args: Any) -> None:
        self._queued += 1
        self._work.put((work, args))

    def _in_order(self) -> None:
        with self.client:
            while (item := self._work.get()) is not None:
                work, args = item
                if not self._closed:
                    try:
                        work(*args)
                    except Exception:  # a message that is none: its sender is not to be trusted
                        self.line.close()
                item = work = args = None
                with self._progress:
                    self._done += 1
                    self._progress.notify_all()

    def _answer(self, number: int, work: Callable[..., Any], args: Any) -> None:
        try:
            told = True, work(*args)
        except Exception as error:
            told = False, pack_fault(error)
            bare(error)
        with contextlib.suppress(OSError, ValueError):
            self.line.send(("answer", number, *told))

    # In order.

    def _call(self, plan: int, handles: list[int], given: dict[int, Any], first: int) -> None:
        self.calls += 1
        try:
            program, tree, count = self.plans[plan]
            if isinstance(program, Failed):
                raise program.error()
            out = program(*jax.tree.unflatten(tree, self.leaves(handles, given)))
            found = jax.tree.leaves(out)
            if len(found) != count:
                raise ProgramError(
                    f"program {program.name!r} gives {count} results when its client traces it and "
                    f"{len(found)} here: it must not depend on anything that changes"
                )
        except Exception as error:
            self._fail(plan, first, error)
        else:
            self.table.update(enumerate(found, first))
        self._acknowledge()

    def _fail(self, plan: int, first: int, error: Exception) -> None:
        failed = Failed(error)
        count = self.plans[plan][2]
        self.table.update((number, failed) for number in range(first, first + count))

    def _plan(self, number: int, key: str, tree: bytes, count: int) -> None:
        try:
            program, structure = self._controller.programs.get(key).program, tree_of(tree)
        except Exception as error:
            program, structure = Failed(error), None
        self.plans[number] = program, structure, count

    def _put(self, part: int, handles: list[int], given: dict[int, Any], first: int) -> None:
        try:
            leaves = [
                fetched(leaf.array() if isinstance(leaf, Value) else leaf)
                for leaf in self.leaves(handles, given)
            ]
            found = self._controller.slices.get(part).put(leaves)
        except Exception as error:
            found = [Failed(error)] * len(handles)
        self.table.update(enumerate(found, first))
        self._acknowledge()

    def _bank(self, number: int, tree: bytes, handles: list[int], given: dict[int, Any]) -> None:
        try:
            leaves = self.leaves(handles, given)
            arrays = [leaf.array() if isinstance(leaf, Value) else leaf for leaf in leaves]
            self.table[number] = Branches(jax.tree.unflatten(tree_of(tree), arrays))
        except Exception as error:
            self.table[number] = Failed(error)
        self._acknowledge()

    def _free(self, numbers: list[int]) -> None:
        for number in numbers:
            self.table.pop(number, None)

    def _release(self, number: int, why: str) -> None:
        found = self.table.pop(number, None)
        if isinstance(found, Value):
            found.release(why)

    def _cancel(self, number: int) -> None:
        found = self.table.get(number)
        if isinstance(found, Value):
            found.cancel()

    def _acknowledge(self) -> None:
        self._last += 1
        if self._last % TOGETHER == 0 or self._work.empty():
            with contextlib.suppress(OSError):
                self.line.send(("done", self._last))

    # Questions whose answers may take their time.

    def _later(self, question: str, after: int, args: list[Any]) -> Any:
        number, *rest = args
        timeout = rest[0] if rest else None
        known = lambda: number in self.table or self._done >= after or self._closed  # noqa: E731
        with self._progress:
            self._progress.wait_for(known, timeout)
        value = self._found(number)
        if question == "finish":
            if isinstance(value, Value):
                with self.client:
                    value.finish()
            return None
        if isinstance(value, Value):
            with self.client:
                return packed(value.result(timeout))
        return packed(fetched(value))

    def _ready(self, after: int, number: int) -> bool:
        if self._done < after and number not in self.table:
            return False
        value = self.table.get(number)
        if isinstance(value, Value):
            return value.done()
        return value is None or isinstance(value, Failed) or is_gone(value) or is_ready(value)

    def leaves(self, handles: list[int], given: dict[int, Any]) -> list[Any]:
        """Arguments: what is here by number, and what was sent."""
        return [
            self._found(number) if number else _given(given[place])
            for place, number in enumerate(handles)
        ]

    def _found(self, number: int) -> Any:
        found = self.table.get(number)
        if found is None:
            raise ValueReleased(
                f"value {number} of client {self.client.name!r} is not here any more: it was "
                "released, or its handle is of an earlier attachment"
            )
        if isinstance(found, Failed):
            raise found.error()
        if not isinstance(found, Value) and is_gone(found):
            raise ValueReleased(f"value {number} of client {self.client.name!r} was donated")
        return found

    @property
    def held(self) -> int:
        """How many values and arrays this client refers to."""
        return len(self.table)

    def reassure(self) -> None:
        """A sign of life, unless the client does not read or is being sent something; not waiting
        for it.
        """
        if self._runs:  # it is greeted, and takes messages
            with contextlib.suppress(OSError):
                self.line.try_send(("alive",))

    # The end.

    def end(self, why: str) -> None:
        """Tells the client, if it reads, that the controller does not serve it any more."""
        if self._runs:
            with contextlib.suppress(OSError):
                self.line.try_send(("end", why), LAST_WORD)
        self.line.close()  # which also ends what is being sent to one that does not

    def close(self) -> None:
        """The client has left, or is dead: frees what has no name. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.line.close()
        self.client.close()
        self._work.put(None)
        with self._progress:
            self._progress.notify_all()
        for pool in (self._waiting, self._looking):
            pool.shutdown(wait=False, cancel_futures=True)
        # A call that is under way, compiling perhaps, is not cut short; what it makes is freed.
        self._worker.join(LAST_CALL)
        self.table.clear()
        self.plans.clear()
        self._controller.left(self)


def _given(wire: Any) -> Any:
    """What was sent, for a program: random keys are made here, NumPy goes on as it is."""
    return from_wire(wire) if isinstance(wire, tuple) else wire
