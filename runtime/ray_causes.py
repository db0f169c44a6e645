"""Arrays that an island gets from others, whose news is heard first if something fails.

What cannot be computed for want of an array fails at the same moment as what was to make it. If its
island were heard sooner than the other, the blame would be its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ray_outbox import Outbox

# Of one island that are remembered.
REMEMBERED = 1000


class Causes:
    """Of what one island takes."""

    def __init__(self) -> None:
        self._takes: deque[tuple[int, Outbox, int]] = deque(maxlen=REMEMBERED)

    def add(self, number: int, source: Outbox, made: int) -> None:
        """An operation takes what another island's operation `made`, unless that is told."""
        takes = self._takes
        while takes and takes[0][1].has_told(takes[0][2]):
            takes.popleft()
        if not source.has_told(made):
            takes.append((number, source, made))

    def of(self, number: int) -> Iterator[tuple[int, Outbox, int]]:
        """What an operation that failed may have needed, in order: what takes it, and what has not
        been told of it."""
        for take, source, made in list(self._takes):
            if take <= number and not source.has_told(made):
                yield take, source, made
