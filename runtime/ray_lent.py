"""Arrays of one island that another runs something with, and what says that it has."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .ray_arrays import RayArray

if TYPE_CHECKING:
    from .ray_outbox import Op, Outbox


class Lent:
    """Parameters of branches that an operation of another island may have run with, and numbers of
    what it may have made.

    They are kept until it is done, and are not given away before: their own island does not know of
    it, since it is told by the other.
    """

    def __init__(self) -> None:
        self._until: deque[tuple[Op, Sequence[Any]]] = deque()

    def lend(self, op: Op, arrays: Sequence[Any]) -> None:
        """Until an operation is done."""
        self.settle()
        self._until.append((op, arrays))

    def settle(self, op: Op | None = None) -> None:
        """Lets go what came back; of an operation it may be known before others hear of it."""
        for entry in list(self._until):
            if entry[0] is op or entry[0].is_ready():
                with contextlib.suppress(ValueError):  # another thread was here
                    self._until.remove(entry)

    def wait_for(self, array: RayArray) -> None:
        """Until nobody has an array that is to be given away; it may have been sent already."""
        for op, arrays in list(self._until):
            if any(one is array for one in arrays):
                with contextlib.suppress(Exception):  # whoever asks for its result is told
                    op.block_until_ready()


class Reserved:
    """Numbers of arrays that an island may make, or not.

    Attributes:
        numbers: these.
    """

    __slots__ = ("_freed", "numbers")

    def __init__(self, outbox: Outbox, count: int):
        with outbox.lock:
            self.numbers = outbox.numbers(count)
        self._freed: Any = outbox.freed

    def take(self) -> range:
        """They are somebody's: what of them is an array frees itself."""
        self._freed = None
        return self.numbers

    def __del__(self) -> None:
        # As of an array: nothing here takes a lock or names a global.
        try:
            if self._freed is not None:
                self._freed.extend(self.numbers)
        except AttributeError:
            pass


class Said(RayArray):
    """What an island says when an operation is done, after which something comes back.

    Attributes:
        lent: where.
    """

    __slots__ = ("lent",)

    def told(self, wire: Any) -> None:
        super().told(wire)
        self.lent.settle(self.op)
