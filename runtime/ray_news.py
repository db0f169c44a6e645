"""What has become of an island's operations: the controller is told when it matters.

An answer costs both processes more than a small node does. So one is given when results are to be
told, something failed, somebody waits for it, or all is done; besides, the controller asks again
after a quarter of a second.
"""

from __future__ import annotations

import heapq
import threading
import time
from typing import Any


class News:
    """The standing question of one controller to one host."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reached = self._last = 0
        self._failed: list[tuple[int, tuple]] = []
        self._told: list[tuple[int, Any]] = []
        self._wanted: list[int] = []  # a heap of operations that somebody waits for
        self._eager = self._due = False

    def expect(self, op: int) -> None:
        """Operations up to this one are going to be enqueued."""
        self._last = op

    def want(self, op: int) -> None:
        """Somebody waits for an operation; of one that is done, or 0, it is said at once."""
        with self._changed:
            if op > self._reached:
                heapq.heappush(self._wanted, op)
            else:
                self._due = True
                self._changed.notify()

    def done(self, op: int, failed: tuple | None, told: list[tuple[int, Any]]) -> None:
        """All up to an operation are.

        Args:
            failed: what it raised.
            told: numbers of its arrays, and what they are.
        """
        with self._changed:
            self._reached = op
            self._told += told
            if failed is not None:
                self._failed.append((op, failed))
            while self._wanted and self._wanted[0] <= op:
                heapq.heappop(self._wanted)
                self._due = True
            if told or failed is not None or op >= self._last or self._eager:
                self._due = True
            if self._due:
                self._changed.notify()

    def wait(self, seen: int, seconds: float, eager: bool) -> tuple[int, list, list]:
        """Waits until there is news that matters, or so many seconds.

        Args:
            seen: the last operation that was told of.
            eager: each operation matters.

        Returns:
            the last operation up to which all are done; errors of operations; arrays to be told.
        """
        end = time.monotonic() + seconds
        with self._changed:
            self._eager = eager
            if not (eager and self._reached != seen):
                self._changed.wait_for(lambda: self._due, max(0.0, end - time.monotonic()))
            self._due = False
            failed, self._failed = self._failed, []
            told, self._told = self._told, []
            return self._reached, failed, told
