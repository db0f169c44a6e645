"""Arrays that are on their way from another process: there at once, computed when they came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from .carried_errors import carried_error
from .errors import NodeError, ValueReleased
from .faults import again, said
from .links import Link, poisoner
from .settled import look, settled
from .tickets import Ticket
from .transfer_errors import PeerLost, TransferError, TransferTimeout

# Words of JAX where a connection ends, or is made to.
_TORN = ("SocketServer", "InjectFailure", "recv()", "Connection")


class Pull:
    """Arrays on their way from another process.

    Attributes:
        tree: of `jax.Array`s, there at once and computed when the bytes have come; they go into
            computations as any others, which fail with them.
        ticket: that was pulled.
        link: which it comes over; None of what is here already.
        flat: the arrays that travel.
        asked: when the peer was last asked for it, on the monotonic clock.
        state, since: what it said, and since when it says so.
        fault: why it will not come, once that is known.
        counted: as refused.
        on_arrival: is told when `result` finds it there.
    """

    def __init__(self, ticket: Ticket, link: Link | None, flat: Sequence[Any], tree: Any):
        self.ticket, self.tree = ticket, tree
        self.link, self.flat = link, list(flat)
        self.began = time.monotonic()
        self.asked: float | None = None
        self.state, self.since = "", self.began
        self.fault: BaseException | None = None
        self.counted = False
        self.on_arrival: Callable[[Pull], None] | None = None

    def result(self, timeout: float | None = None) -> Any:
        """The tree, when all of it has come.

        Args:
            timeout: seconds to wait; None is as long as the peer answers and its bytes come.

        Raises:
            NodeError, or another error of the runtime: what should have been made was not.
            TransferRefused: the peer has nothing under this identifier.
            TransferTimeout: it did not come in time; ask again to wait longer. Or the peer was
                silent for the patience of its `Transfers`.
            PeerLost: the peer is gone.
            ValueReleased: the peer donated or deleted an array before it was pulled.
        """
        limited = timeout is not None or (
            self.link is not None and poisoner(self.link.connection) is None
        )
        if limited:
            self._wait(timeout)
        try:
            for array in self.flat:
                look(array)
        except Exception as error:
            raise again(self.failure(error)) from error
        if self.on_arrival is not None:
            self.on_arrival(self)
            self.on_arrival = None
        return self.tree

    def done(self) -> bool:
        """All has come, or has failed; never waits."""
        return all(map(settled, self.flat))

    def __await__(self) -> Generator[Any, None, Any]:
        while not self.done() and self.fault is None:
            yield from asyncio.sleep(0.0002).__await__()
        return self.result(0.0)

    def failure(self, error: BaseException) -> BaseException:
        """Whose fault it is that asking for an array raised `error`."""
        if self.fault is None:
            self.fault = self._blame(error)
        return self.fault

    def __repr__(self) -> str:
        return f"Pull of {self.ticket!r}"

    def _wait(self, timeout: float | None) -> None:
        began = time.monotonic()
        while not self.done():
            waited = time.monotonic() - began
            if self.fault is not None:
                raise again(self.fault) from self.fault.__cause__
            if timeout is not None and waited >= timeout:
                told = {"computing": "is still computing it", "open": "offers it"}.get(self.state)
                raise TransferTimeout(
                    f"identifier {hex(self.ticket.identifier)} from {self.ticket.peer} was not "
                    f"there after {timeout:g} s"
                    + (f"; the peer {told}" if told else "")
                    + ": ask again to wait longer"
                )
            time.sleep(min(5e-4, max(1e-5, waited / 50)))

    def _blame(self, error: BaseException) -> BaseException:
        carried = carried_error(error)
        if carried is not None:
            return carried
        if self.link is not None and self.link.broken is not None:
            return self.link.broken
        text, what = said(error), f"identifier {hex(self.ticket.identifier)}"
        if torn(text):
            return PeerLost(
                f"peer {self.ticket.peer} is gone, {time.monotonic() - self.began:.1f} s after "
                f"{what} was pulled: {text}"
            )
        if "deleted or donated" in text:
            return ValueReleased(
                f"{what} from {self.ticket.peer} was donated or deleted there before it was "
                "pulled: keep what is offered until it is taken"
            )
        for origin in self.ticket.origins:
            if origin is not None:
                return NodeError(text, *origin)
        return TransferError(f"{what} from {self.ticket.peer} did not arrive: {text}")


def torn(text: str) -> bool:
    """Whether an error of an array tells of the connection by which it was to come."""
    return any(word in text for word in _TORN)
