"""Messages to one host of an island: light ones by its entrance, heavy ones by Ray."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Callable, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from .ray_channel import Entrance

# Bytes of a message that goes by the entrance. Ray has shared memory for larger ones, and says when
# it is full.
LIGHT = 1 << 17


class Sending:
    """Messages to one host: light ones by its entrance, as long as it takes them."""

    def __init__(
        self,
        by_ray: Callable[..., Any],
        want_by_ray: Callable[..., Any],
        claim: str,
        entrance: tuple | None,
    ):
        self._by_ray, self._want_by_ray, self._claim = by_ray, want_by_ray, claim
        self._way = entered(entrance, "messages", claim)
        self._takes = polled(self._way, select.POLLOUT)

    def __call__(self, number: int, first: int, ops: list[tuple]) -> None:
        if self._way is not None and _weight(ops) < LIGHT and self._takes.poll(0):
            packed = ForkingPickler.dumps((number, first, ops))
            if len(packed) < LIGHT:
                with contextlib.suppress(OSError):  # it is gone, most likely: Ray will see
                    return self._way.send_bytes(packed)
        self._by_ray(self._claim, number, first, ops)

    def want(self, op: int) -> None:
        """Somebody waits for an operation; never raises."""
        with contextlib.suppress(Exception):  # who listens for news hears why
            if self._way is not None and self._takes.poll(0):
                self._way.send((op,))
            else:
                self._want_by_ray(self._claim, op)


def entered(entrance: tuple | None, kind: str, claim: str) -> Connection | None:
    """A connection to a host; None if it cannot be had, so that Ray has to do."""
    if entrance is None:
        return None
    with contextlib.suppress(OSError, AuthenticationError):
        return Entrance(*entrance).connect((kind, claim))
    return None


def polled(way: Connection | None, what: int) -> Any:
    """Waits for a connection; made once, since making one takes longer than most of the waits."""
    found = select.poll()
    if way is not None:
        found.register(way, what)
    return found


def _weight(ops: Sequence[tuple]) -> int:
    """Bytes of the arrays in a message."""
    arrays = (array for op in ops if op[0] == "put" for array in op[2])
    return sum(a[1].nbytes if isinstance(a, tuple) else a.nbytes for a in arrays)
