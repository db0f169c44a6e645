"""A device of another process, as the controller knows it."""

from __future__ import annotations

from typing import Any


class RayDevice:
    """One device of one island.

    Attributes:
        outbox: whatever its island is told by.
        index: which of its island's devices.
        id: of this device alone, for traces.
        platform: `cpu`, `gpu`, …
        host: which of its island's hosts has it.
    """

    __slots__ = ("__weakref__", "host", "id", "index", "outbox", "platform")

    def __init__(self, outbox: Any, index: int, number: int, platform: str, host: int = 0):
        self.outbox, self.index, self.id, self.platform = outbox, index, number, platform
        self.host = host

    def __repr__(self) -> str:
        return f"RayDevice({self.outbox.name!r}, {self.platform}:{self.index})"
