"""A device of another process, as the controller knows it."""

from __future__ import annotations

from typing import Any


class RayDevice:
    """One device of one island.

    Attributes:
        outbox: whatever its island is told by.
        index: which of its process's devices.
        id: of this device alone, for traces.
        platform: `cpu`, `gpu`, …
    """

    __slots__ = ("__weakref__", "id", "index", "outbox", "platform")

    def __init__(self, outbox: Any, index: int, number: int, platform: str):
        self.outbox, self.index, self.id, self.platform = outbox, index, number, platform

    def __repr__(self) -> str:
        return f"RayDevice({self.outbox.name!r}, {self.platform}:{self.index})"
