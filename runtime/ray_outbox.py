"""What the controller tells one island: operations in one order, many in a message.

Nothing here waits for the island. An operation is appended, and the handles of what it will make
exist; when a run has enqueued what it can, or waits, all that was appended goes in one message; a
long run's goes when a turn ends, some milliseconds after the last. A thread listens for what the
island has computed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .errors import IslandLost, StoreFull
from .faults import again, said
from .ray_causes import Causes
from .ray_wire import pack_error, unpack_error

if TYPE_CHECKING:
    from .ray_arrays import RayArray

# Seconds after which an island answers that there is no news; also how long what nobody needs any
# more may stay where nothing is sent.
QUIET = 0.25
# Seconds that an operation may wait for others to go with, while more are appended: of an island
# that has nothing to do, and of one that is busy.
SOON, LATER = 1e-3, 8e-3
# Failed operations that are remembered; each is also told to whoever waits for it.
REMEMBERED = 100_000
# Arrays that are to be told, from which on those are looked for that are nobody's any more.
UNTOLD = 1000
# Seconds that other islands are heard first, where something fails for want of their arrays.
FIRST = 2.0
# Words of what is done whose time is remembered, for recorders.
HEARD = 10_000


@runtime_checkable
class Line(Protocol):
    """The way to an island."""

    def send(self, number: int, first: int, ops: list[tuple]) -> None:
        """A message, in order; returns at once.

        Raises:
            Exception: it did not go.
        """
        ...

    def want(self, op: int) -> None:
        """Somebody waits for an operation (0 is for any); returns at once, and never raises."""
        ...

    def ask(self, what: str, *args: Any) -> Any:
        """Calls a method of the island and waits.

        Raises:
            IslandLost: it is gone.
        """
        ...


class Op:
    """One thing that an island does, and when it is done.

    Attributes:
        told: the island says so by itself, since some of its results are to come.
    """

    __slots__ = ("number", "outbox", "told")

    def __init__(self, outbox: Outbox, number: int):
        self.outbox, self.number, self.told = outbox, number, False

    def is_ready(self) -> bool:
        outbox = self.outbox
        return outbox.reached >= self.number or outbox.lost is not None

    def is_deleted(self) -> bool:
        """Never: it is told of even when its arrays were donated."""
        return False

    def wait_at_most(self, seconds: float | None) -> bool:
        """Whether it is done within so many seconds."""
        if not self.is_ready():
            self.outbox.flush()
            self.outbox.wait_for(self, seconds)
        return self.is_ready()

    def block_until_ready(self) -> Op:
        """Raises what it raised."""
        self.wait_at_most(None)
        outbox = self.outbox
        error = outbox.failed.get(self.number)
        if error is None and outbox.reached < self.number:
            error = outbox.lost
        if error is not None:
            raise again(error)
        return self


class Outbox:
    """Of one island.

    Attributes:
        name: the island's, for messages.
        peer: of its process alone, by which other islands know it.
        hosts: how many processes the island is.
        lock: whoever appends holds it.
        freed: numbers of arrays that the island may forget; appended to at any time.
        reached: the last operation up to which all are done.
        failed: what operations raised, by number.
        lost: why the island is gone; None while it is there.
        messages, sent: how many messages and operations went.
        codes: keys of the executables that the island has, and what each costs.
        causes: what it takes from other islands.
    """

    def __init__(
        self,
        name: str,
        line: Line,
        on_lost: Callable[[Outbox], None],
        peer: str | None = None,
        losing: Callable[[Outbox], None] = lambda _: None,
    ):
        """Args:
        name, line, peer: see above.
        on_lost: called once, by whoever notices that the island is gone.
        losing: called before anybody else knows; must return at once.
        """
        self.name, self.line, self._on_lost, self._losing = name, line, on_lost, losing
        self.peer, self.hosts = peer or name, 1
        self.lock = threading.RLock()
        self.freed: deque[int] = deque()
        self.reached = 0
        self.failed: OrderedDict[int, BaseException] = OrderedDict()
        self.lost: IslandLost | None = None
        self.messages = self.sent = 0
        self.codes: dict[str, dict[str, float]] = {}
        self.causes = Causes()
        self._ops: list[tuple] = []
        self._first: set[Outbox] = set()  # whose messages must be on their way before
        self._number = self._arrays = self._posted = 0
        self._due = 0.0  # when what was appended first is to go
        self._heard: deque[tuple[int, float]] = deque(maxlen=HEARD)
        self._changed = threading.Condition()
        self._telling: dict[int, weakref.ref[RayArray]] = {}
        self._room = UNTOLD  # in it, until it is looked through
        self._stopped = self._eager = False
        self._thread = threading.Thread(target=self._listen, name=f"byways {name}", daemon=True)
        self._thread.start()

    # Appending. The caller holds the lock, so that an array is not freed before it is used.

    def op(self) -> Op:
        """The next operation; what was freed until now is forgotten before it."""
        if self.freed:
            gone = []
            while self.freed:
                gone.append(self.freed.popleft())
            self._ops.append(("free", gone))
        self._number += 1
        if self._posted == self._number - 1:
            busy = self.reached < self._posted
            self._due = time.perf_counter() + (LATER if busy else SOON)
        return Op(self, self._number)

    def numbers(self, count: int) -> range:
        """Of new arrays."""
        first = self._arrays
        self._arrays += count
        return range(first, first + count)

    def append(self, what: tuple) -> None:
        """To what goes with the next message."""
        self._ops.append(what)

    def tell(self, array: RayArray) -> None:
        """Its numbers will come with the news that it is computed."""
        if len(self._telling) >= self._room:
            # Of those that failed, or were donated first, nothing comes.
            for number, ref in list(self._telling.items()):
                if ref() is None:
                    self._telling.pop(number, None)
            self._room = max(UNTOLD, 2 * len(self._telling))
        self._telling[array.number] = weakref.ref(array)
        array.op.told = True

    def after(self, other: Outbox) -> None:
        """The other's messages go first, since what is appended here waits for them."""
        self._first.add(other)

    # Sending.

    def flush_due(self) -> None:
        """Sends what was appended, if some of it has waited long enough for more."""
        if self._posted < self._number and time.perf_counter() >= self._due:
            self.flush()

    def flush_all(self) -> None:
        """Sends what was appended."""
        if self._posted < self._number:
            self.flush()

    def flush(self, forget: bool = False) -> None:
        """Sends what was appended; returns at once.

        Args:
            forget: what the island may forget is worth a message of its own.
        """
        with self.lock:
            first, self._first = self._first, set()
        for other in first:
            other.flush()
        with self.lock:
            if forget and self.freed and not self._ops:
                gone = []
                while self.freed:
                    gone.append(self.freed.popleft())
                self._ops.append(("free", gone))
            if not self._ops:
                return
            ops, self._ops = self._ops, []
            started, self._posted = self._posted, self._number
            error = None
            if self.lost is None:
                self.messages += 1
                self.sent += len(ops)
                error = self._post(started + 1, ops)
        if error is not None:
            self.lose(error)

    def _post(self, first: int, ops: list[tuple]) -> IslandLost | None:
        """Sends a message; gives why the island is lost if nothing can be sent."""
        try:
            self.line.send(self.messages, first, ops)
        except IslandLost as error:
            return error
        except Exception as error:
            # What it carries has no room, most likely. All else must go, in order.
            packed = pack_error(
                StoreFull(
                    f"arrays of this process cannot be sent to island {self.name!r} ({said(error)})"
                    ": send less at once, or give Ray's object store more memory"
                )
            )
            light = [("ill", op[1], packed) if op[0] == "put" else op for op in ops]
            try:
                self.line.send(self.messages, first, light)
            except Exception as again_error:
                return IslandLost(f"island {self.name!r} cannot be told: {said(again_error)}")
        return None

    # Asking.

    def ask(self, what: str, *args: Any) -> Any:
        """Calls the island and waits; what was appended goes first.

        Raises:
            IslandLost: it is gone.
        """
        self.check()
        self.flush(forget=True)
        try:
            return self.line.ask(what, *args)
        except IslandLost as error:
            self.lose(error)
            self.check()  # it may be known for another reason already
            raise

    def fetch(self, number: int) -> Any:
        """An array's numbers."""
        found, error = self.ask("fetch", number)
        if error is not None:
            raise unpack_error(error)
        return found

    def check(self) -> None:
        """Raises IslandLost if it is gone."""
        if self.lost is not None:
            raise again(self.lost)

    def heard_at(self, number: int) -> float | None:
        """When it was said that an operation is done, by `perf_counter`; None is long ago."""
        at = None
        for reached, when in reversed(list(self._heard)):
            if reached < number:
                return at
            at = when
        return at if len(self._heard) < HEARD else None

    def hear_all(self, eager: bool) -> None:
        """Whether news of each operation is wanted, soon: somebody records when it was done."""
        if eager is not self._eager:
            self._eager = eager
            self._want(0)

    def _want(self, number: int) -> None:
        with self.lock:  # one at a time
            self.line.want(number)

    def wait_for(self, op: Op, seconds: float | None) -> None:
        """Until it is done, or the time is over."""
        if not op.told and self.lost is None:
            self._want(op.number)
        with self._changed:
            self._changed.wait_for(op.is_ready, seconds)

    # Listening.

    def _listen(self) -> None:
        try:
            while not self._stopped:
                self._hear(*self.line.ask("news", self.reached, QUIET, self._eager))
        except IslandLost as error:
            self.lose(error)
        except Exception as error:  # who waits must not wait for ever
            self.lose(IslandLost(f"island {self.name!r} is not understood: {said(error)}"))

    def _hear(self, reached: int, failures: list, told: list) -> None:
        for number, wire in told:
            self._came(number, wire)
        for number, packed in failures:
            self.failed[number] = unpack_error(packed)
            while len(self.failed) > REMEMBERED:
                self.failed.popitem(last=False)
        if failures:
            for take, source, made in self.causes.of(max(number for number, _ in failures)):
                self._reach(take - 1)  # for which the other may wait itself
                source.wait_told(made, FIRST)
        if reached != self.reached:
            self._reach(reached)
        elif self._ops or self.freed:
            self.flush(forget=True)

    def _reach(self, number: int) -> None:
        if number > self.reached:
            self._heard.append((number, time.perf_counter()))
            with self._changed:
                self.reached = number
                self._changed.notify_all()

    def has_told(self, number: int) -> bool:
        """Whether it has said what became of an operation, or never will."""
        return self.reached >= number or self.lost is not None

    def wait_told(self, number: int, seconds: float) -> None:
        """Until it has, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.has_told(number), seconds)

    def _came(self, number: int, wire: Any) -> None:
        # A function of its own, whose frame does not keep the handle.
        ref = self._telling.pop(number, None)
        array = None if ref is None else ref()
        if array is not None:
            array.told(wire)

    def lose(self, error: IslandLost) -> None:
        """The island is gone: nothing is waited for any more. May be called twice."""
        with self._changed:
            if self.lost is not None:
                return
            error.__traceback__ = None
            ill = None
            if not self._stopped:
                try:
                    self._losing(self)
                except Exception as raised:  # who waits must not wait for ever
                    ill = raised
            self.lost = error
            self._changed.notify_all()
        if not self._stopped:
            self._on_lost(self)
        if ill is not None:
            raise ill

    def is_lost(self) -> bool:
        """Whether it is gone, and whoever is to know before all others does."""
        with self._changed:
            return self.lost is not None

    def stop(self) -> None:
        """Listens no more; the island may be ended now."""
        self._stopped = True

    def join(self, seconds: float = 5.0) -> None:
        """Waits for the thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def __repr__(self) -> str:
        return f"Outbox({self.name!r}, {self.sent} operations in {self.messages} messages)"
