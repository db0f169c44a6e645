"""Who asks for work: a share of each island, a priority, and all that is held in its name."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from .errors import ValueReleased

if TYPE_CHECKING:
    from .run import Run
    from .system import Runtime
    from .values import Value


class Client:
    """A share of the runtime. Entered (`with client:`), this thread's calls are in its name.

    Attributes:
        name: in traces and errors.
        weight: of its share of an island that others want too.
        priority: higher goes first, whatever the shares.
        closed: it has left.
    """

    def __init__(self, system: Runtime, name: str, weight: float = 1.0, priority: int = 0):
        if not weight > 0:
            raise ValueError(f"client {name!r} has weight {weight}: a weight is above 0")
        self.system, self.name, self.weight, self.priority = system, name, weight, priority
        self.closed = False
        # The scheduler's: virtual time by island, and how often it is soon back after a turn.
        self.finish: dict[str, float] = {}
        self.prompt = 1.0
        # By id. No WeakSet: threads add to it while another goes through it.
        self.values: dict[int, weakref.ref[Value]] = {}
        self.runs: set[Run] = set()

    def close(self) -> None:
        """Leaves: what was not sent is cancelled, all values are freed. May be called twice."""
        self.closed = True
        for run in list(self.runs):
            run.cancel(f"client {self.name!r} left")
        for ref in list(self.values.values()):
            value = ref()
            if value is not None:
                value.release(f"its client {self.name!r} left")
        self.system.clients.pop(self.name, None)

    def adopt(self, value: Value) -> None:
        """A value of another client is this one's from now on, with the bytes that it holds."""
        other, store = value._client, self.system.store
        other.values.pop(id(value), None)
        for held in value._held:
            island = value._run.island_name(value._node)
            store.note(island, other.name, -held)
            store.note(island, self.name, held)
        value._client = self
        self.values[id(value)] = weakref.ref(value)

    def advance_others(self, but: Run | None = None) -> bool:
        """Sends what other runs of this client can send by now; whether there was any."""
        # A list: all of them are to go on.
        return any([run.advance() for run in list(self.runs) if run is not but])  # noqa: C419

    def check(self) -> None:
        """Raises ValueReleased if it has left."""
        if self.closed:
            raise ValueReleased(f"client {self.name!r} has left: make another to go on")

    def __enter__(self) -> Client:
        self.check()
        _stack().append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _stack().remove(self)

    def __repr__(self) -> str:
        return f"Client({self.name!r}, weight={self.weight:g}, priority={self.priority})"


_state = threading.local()


def _stack() -> list[Client]:
    if not hasattr(_state, "clients"):
        _state.clients = []
    return _state.clients


def current_client(system: Runtime) -> Client:
    """The innermost client of `system` that this thread has entered, or its default one."""
    for client in reversed(_stack()):
        if client.system is system:
            client.check()
            return client
    system.default.check()
    return system.default
