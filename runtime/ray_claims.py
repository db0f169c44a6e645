"""Who has an island: one controller at a time, as long as it listens for news."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping
from typing import Any

from .errors import RuntimeFault


class IslandTaken(RuntimeFault):
    """Another controller has this island."""


def new_claim(silence: float) -> dict[str, Any]:
    """What a controller says of itself. A dict, which islands of other versions can read.

    Args:
        silence: seconds without a question for news after which it counts as gone.
    """
    return {
        "id": secrets.token_hex(8),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.time(),
        "silence": silence,
    }


def said_of(claim: Mapping[str, Any]) -> str:
    """A claim for people."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(claim["since"]))
    return f"process {claim['pid']} on {claim['host']}, since {since}"


class Claims:
    """An island's own book of who has it."""

    def __init__(self) -> None:
        self._held: dict[str, Any] | None = None
        self._heard = 0.0

    def take(self, claim: dict[str, Any]) -> dict[str, Any] | None:
        """A controller wants the island.

        Returns:
            None if it has it now; else who has, with the seconds since it was `heard`.
        """
        quiet = time.monotonic() - self._heard
        held = self._held
        if held is not None and held["id"] != claim["id"] and quiet < held["silence"]:
            return {**held, "heard": quiet}
        self._held, self._heard = claim, time.monotonic()
        return None

    def leave(self, identifier: str) -> None:
        """A controller needs it no more."""
        if self.has(identifier):
            self._held = None

    @property
    def holder(self) -> str:
        """Identifier of who has it; "" is nobody."""
        return "" if self._held is None else self._held["id"]

    def has(self, identifier: str) -> bool:
        """Whether this controller has it."""
        return self._held is not None and self.holder == identifier

    def hear(self, identifier: str) -> None:
        """It asks for news.

        Raises:
            IslandTaken: it was away for long, and another has the island now.
        """
        if not self.has(identifier):
            by = "nobody" if self._held is None else said_of(self._held)
            raise IslandTaken(
                f"this controller was silent for so long that it counted as gone, and the island "
                f"has been taken by {by}"
            )
        self._heard = time.monotonic()
