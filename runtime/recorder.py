"""What a run tells while tracing is on: a few µs a node, and one thread that watches the arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .spans import Key, Span, SpanKind, lay_out

if TYPE_CHECKING:
    from .system import Runtime

# Of a span, in the order in which the recorder keeps them until it is closed.
_FIELDS = tuple(field.name for field in dataclasses.fields(Span))[:13]
# Between two looks at several lanes; on one lane it waits for the array itself.
_GLANCE = 5e-5
# So many are looked at, at most: more than the scheduler has in flight on an island.
_AHEAD = 256


class _Sent:
    """A span so far. Slots and no dataclass, because one is made for every node."""

    __slots__ = ("failed", "fields", "ready", "times", "watched", "way")

    def __init__(self, fields: tuple, times: tuple[float, float], way: Any, watched: Any):
        self.fields, self.times, self.way, self.watched = fields, times, way, watched
        self.ready = math.inf
        self.failed = False


class Recorder:
    """Collects spans of everything that is sent between its making and `close`.

    The dispatching threads only append; an observer thread, there while the recorder is open,
    stamps when each array was ready. It holds one output of a node until it has seen it.

    Examples:
        >>> import time, jax.numpy as jnp
        >>> with Recorder() as recorder:
        ...     began = time.perf_counter()
        ...     x = jnp.ones(3) + 1
        ...     recorder.sent(
        ...         run=0, program="p", client="me", node=0, name="add", kind="node",
        ...         island="local", devices=(0,), parents=(), key=0, woken_by=None,
        ...         began=began, ended=time.perf_counter(), watched=x,
        ...     )
        >>> [(span.name, span.seen, span.ended > span.began) for span in recorder.spans]
        [('add', True, True)]
    """

    def __init__(self):
        self.spans: list[Span] = []
        self._all: deque[_Sent] = deque()
        self._new: deque[_Sent] = deque()
        self._given: dict[Key, Key] = {}
        self._ways: set[Any] = set()
        self._asleep = self._closed = self._abandoned = False
        self._wake = threading.Event()
        self._closing = threading.Lock()
        self._observer = threading.Thread(target=self._observe, name="byways-trace", daemon=True)
        self._observer.start()

    def sent(
        self,
        *,
        run: int,
        program: str,
        client: str,
        node: int,
        name: str,
        kind: SpanKind,
        island: str,
        devices: tuple[int, ...],
        parents: tuple[int, ...],
        key: int,
        woken_by: int | None,
        began: float,
        ended: float,
        watched: Any,
        made: int = 0,
    ) -> None:
        """Tells of one thing that was just enqueued, from the thread that did it.

        Args:
            watched: one output, a `jax.Array`, by which its end is seen; None if there is none.
            began, ended: of the enqueuing (of `read` the wait), by `time.perf_counter`.
            made: bytes of its outputs.
            others: as in `Span`.
        """
        if self._closed:
            return
        thread = threading.get_ident()
        head = (run, program, client, node, name, kind, island, devices, parents, key, woken_by)
        item = _Sent((*head, made, thread), (began, ended), (devices, kind == "transfer"), watched)
        self._all.append(item)
        if watched is None:
            return
        try:
            # Small programs run inside the call, on CPU: what is done already was done there.
            if watched.is_ready():
                item.ready = ended
        except RuntimeError:
            pass  # it was donated; the observer finds that too
        self._new.append(item)
        if self._asleep:
            self._wake.set()

    def given(self, run: int, key: int, maker: Key) -> None:
        """Tells that what `key` makes in this run is an argument, made by (run, key) of another."""
        self._given[run, key] = self._given.get(maker, maker)

    def close(self, patience: float | None = 60.0) -> list[Span]:
        """Waits for what was sent, at most `patience` seconds, and ends the observer.

        May be called twice. What did not end in time counts as not seen.

        Returns:
            the spans, in order of sending; also as `spans`.
        """
        with self._closing:
            if not self._closed:
                self._closed = True
                self._wake.set()
                self._observer.join(patience)
                self._abandoned = True
                sent = list(self._all)
                self._all.clear()
                self.spans = lay_out(_spans(sent, self._given))
        return self.spans

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # The observer.

    def _observe(self) -> None:
        pending: deque[_Sent] = deque()
        while True:
            while self._new:
                item = self._new.popleft()
                pending.append(item)
                self._ways.add(item.way)
            if not pending:
                if self._closed and not self._new:
                    return
                self._sleep()
            elif self._abandoned:
                return
            elif len(self._ways) == 1:
                _finish(pending.popleft())
            elif not _look(pending):
                time.sleep(_GLANCE)

    def _sleep(self) -> None:
        self._asleep = True
        if not self._new and not self._closed:
            # The timeout mends a wake-up that came between the look and the wait.
            self._wake.wait(0.05)
        self._asleep = False
        self._wake.clear()


@contextlib.contextmanager
def recording(system: Runtime) -> Iterator[Recorder]:
    """Records what a runtime sends inside: `with recording(system) as recorder: …`.

    Fetch results inside, or what waits for a read is sent too late to be in it. Afterwards
    `recorder.spans` holds all, and the runtime has the recorder it had before.
    """
    with system.resources.backend.recorder() as recorder:
        before, system.recorder = system.recorder, recorder
        try:
            yield recorder
        finally:
            system.recorder = before


def _look(pending: deque[_Sent]) -> int:
    """Stamps what is ready, on each lane up to the first that is not; gives how many."""
    busy: set[int | tuple[int, str]] = set()
    kept: list[_Sent] = []
    found = 0
    for _ in range(min(len(pending), _AHEAD)):
        item = pending.popleft()
        devices, copies = item.way
        lanes = [(device, "copies") if copies else device for device in devices]
        if busy.isdisjoint(lanes) and _ready(item):
            _finish(item)
            found += 1
        else:
            busy.update(lanes)
            kept.append(item)
    pending.extendleft(reversed(kept))
    return found


def _ready(item: _Sent) -> bool:
    try:
        return item.ready < math.inf or item.watched.is_deleted() or item.watched.is_ready()
    except RuntimeError:
        return True  # deleted in between


def _finish(item: _Sent) -> None:
    """Waits for a span's array, stamps it, and lets it go."""
    array, item.watched = item.watched, None
    try:
        array.block_until_ready()
    except Exception:
        # A node's own error may be of any class. A donated array raises as well, and tells no time.
        if array.is_deleted():
            return
        item.failed = True
    if item.ready == math.inf:
        heard = getattr(array, "heard_at", lambda: None)()  # of an island: before we were woken
        item.ready = time.perf_counter() if heard is None else heard


def _spans(sent: list[_Sent], given: dict[Key, Key]) -> list[Span]:
    threads: dict[int, int] = {}
    found = []
    for item in sent:
        fields = dict(zip(_FIELDS, item.fields, strict=True))
        mine = [(fields["run"], key) for key in fields["parents"]]
        fields["after"] = tuple(dict.fromkeys(given[key] for key in mine if key in given))
        fields["thread"] = threads.setdefault(fields["thread"], len(threads))
        began, ended = item.times
        by_device = fields["kind"] in ("node", "transfer")
        found.append(
            Span(
                **fields,
                sent_began=began,
                sent_ended=ended,
                began=began,
                ended=item.ready if by_device else ended,
                seen=True,
                failed=item.failed,
            )
        )
    return found
