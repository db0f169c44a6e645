"""What other islands say to one: that arrays may be pulled; and that some of them are lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from .pulls import torn

# Seconds in which it becomes known that an island is lost from which arrays do not come; waited for
# once in as many more, since nothing is told of meanwhile.
KNOWN = 2.0
# Failed pulls that are remembered, for what needed them.
TORN = 1000


class Letterbox:
    """Of one host of an island.

    Attributes:
        closed: why nothing is waited for any more, as `pack_error` has it; None while it is.
    """

    def __init__(self) -> None:
        self.closed: tuple | None = None
        self._letters: dict[str, Any] = {}
        self._gone: dict[str, tuple] = {}  # islands that are lost, and their error
        self._pulls: dict[int, list[str]] = {}  # from which islands, by operation
        self._doubted: dict[str, float] = {}  # until when an island is not waited for again
        # What pulls said that failed, and why they did, the last first.
        self._torn: deque[tuple[str, tuple]] = deque(maxlen=TORN)
        self._changed = threading.Condition()

    def deliver(self, key: str, what: Any) -> None:
        """Another island says something."""
        with self._changed:
            self._letters[key] = what
            self._changed.notify_all()

    def lose(self, name: str, packed: tuple) -> None:
        """An island is gone: what it has not said it will not say."""
        with self._changed:
            self._gone[name] = packed
            self._changed.notify_all()

    def close(self, packed: tuple) -> bool:
        """Ends all waiting; whether it was not closed before."""
        with self._changed:
            if self.closed:
                return False
            self.closed = packed
            self._changed.notify_all()
            return True

    def has_lost(self, name: str) -> bool:
        """Whether an island is known to be gone."""
        return name in self._gone

    def word(self, key: str, whose: str, arrays: int) -> tuple[str, list]:
        """Waits for what an island says of arrays: a ticket, and of each what is wrong or None."""
        with self._changed:
            self._changed.wait_for(
                lambda: key in self._letters or whose in self._gone or self.closed
            )
            lost = self._gone.get(whose, self.closed)
            return self._letters.pop(key, ("", [lost] * arrays))

    # When arrays do not come.

    def pulls(self, op: int, whose: str) -> None:
        """An operation pulls arrays from an island."""
        self._pulls.setdefault(op, []).append(whose)

    def reason(self, op: int, failed: tuple | None) -> tuple | None:
        """Of an operation that has ended: its error, or that an island is lost where that is why it
        failed. So it is with pulls and with all that needs what they were to bring.
        """
        islands = self._pulls.pop(op, ())
        if failed is None:
            return None
        if islands and (why := self._loss(islands, failed[1])) is not None:
            self._torn.appendleft((failed[1], why))
        return next((why for text, why in self._torn if text in failed[1]), failed)

    def _loss(self, islands: Sequence[str], text: str) -> tuple | None:
        """That one of these is lost; where a connection ended, it may become known only now."""
        lost = lambda: next((self._gone[n] for n in islands if n in self._gone), None)  # noqa: E731
        with self._changed:
            now = time.monotonic()
            if torn(text) and any(self._doubted.get(name, now) <= now for name in islands):
                self._changed.wait_for(lambda: lost() or self.closed, KNOWN)
                until = time.monotonic() + KNOWN
                self._doubted.update(dict.fromkeys(islands, until))
            return lost()
