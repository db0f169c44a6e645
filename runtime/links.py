"""The connection to one peer: its data, its door, and what it is yet to be told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .doors import Line
from .tickets import Peer


class Link:
    """The connection to one peer.

    Attributes:
        broken: why it is no more.
        moved: when something last came, on the monotonic clock.
        finished: identifiers that it is yet to be told were pulled or will not be.
    """

    def __init__(self, peer: Peer, connection: Any):
        self.peer, self.connection = peer, connection
        self.line: Line | None = None
        self.broken: BaseException | None = None
        self.moved = time.monotonic()
        self.gone_since: float | None = None
        self.finished: dict[str, list[int]] = {"done": [], "release": []}

    def fail(self, error: BaseException) -> None:
        """Everything that is still to come over it fails."""
        if self.broken is None:
            self.broken = error
            poison = poisoner(self.connection)
            if poison is not None:
                poison()


def poisoner(connection: Any) -> Callable[[], None] | None:
    """What makes all that is pending on a connection fail; None if this JAX has nothing."""
    for name in ("_poison_connection", "_testonly_inject_failure"):
        if hasattr(connection, name):
            return getattr(connection, name)
    return None
