"""Room for what is fetched: evictions in order, waiting for programs and for other threads."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import Any

from .cold import Key
from .cold_errors import ItemsInUse
from .resident_book import Book

# Seconds between two looks for pins that were given back without a word.
_LOOK = 0.02


class Room:
    """A book and its lock.

    Attributes:
        book: to be touched by who holds `changed` alone.
        changed: notified when entries arrive, leave, or are given back.
        loose: keys given back where no lock can be taken: by a thread's end, by a generator's.
    """

    def __init__(self, budget: int, patience: float):
        self.book = Book(budget)
        self.changed = threading.Condition(threading.Lock())
        self.loose: deque[Key] = deque()
        self._patience = patience
        self._mine = threading.local()
        self._claimed = 0  # by the one call that may wait

    # With the lock held; let go while they wait.

    def make(self, need: int, limit: int, *, wait: bool = True, but: Collection[Key] = ()) -> bool:
        """Evicts until `need` more bytes fit under `limit`; whether they do.

        Args:
            need: 0 brings what there is below the limit.
            limit: bytes.
            wait: for programs to be computed and for other threads; else gives up.
            but: these stay.

        Raises:
            ItemsInUse: nobody gave anything back in time.
        """
        end = time.monotonic() + self._patience
        self.settle()
        if wait:
            self._claimed = need
        else:  # not the room that somebody waits for
            need += self._claimed
        try:
            while self.book.live + need > limit:
                key = self.book.victim(but)
                if key is not None:
                    if not self._evict(key, wait):
                        return False
                elif not wait:
                    return False
                else:
                    if time.monotonic() > end:
                        self._give_up(need, limit)
                    self.changed.wait(_LOOK)
                    self.settle()
            return True
        finally:
            if wait:
                self._claimed = 0

    def drop_all(self) -> None:
        """Evicts what nobody needs."""
        self.settle()
        while (key := self.book.victim()) is not None:
            self._evict(key, wait=True)

    def settle(self) -> None:
        """Takes note of what was given back."""
        while self.loose:
            self.book.unpin(self.loose.popleft())

    # Without it.

    def pins(self) -> Pins:
        """This thread's."""
        if not hasattr(self._mine, "pins"):
            self._mine.pins = Pins(self.loose)
        return self._mine.pins

    def let_go(self, keys: Sequence[Key]) -> None:
        """Gives back."""
        if keys:
            self.loose.extend(keys)
            with self.changed:
                self.settle()
                self.changed.notify_all()

    def _evict(self, key: Key, wait: bool) -> bool:
        """Evicts it, or waits for what it waits for (then look again); False is neither."""
        waiting = list(self.book.entries[key].waits_for())
        if not waiting:
            self.book.forget(key)
            self.book.evictions += 1
        elif wait:
            self.changed.release()
            try:
                for array in waiting:
                    _wait(array)
            finally:
                self.changed.acquire()
        return wait or not waiting

    def _give_up(self, need: int, limit: int) -> None:
        entries = self.book.entries.items()
        held = [key for key, entry in entries if entry.pins and entry.tree is not None]
        raise ItemsInUse(
            f"no room for {need:,} bytes after {self._patience:g} s: of at most {limit:,} bytes "
            f"{self.book.live:,} are in use, by {len(held)} items ({held[:4]}, …): say "
            "used(key, result) once a program was given an item, or raise the budget"
        )


class Pins:
    """What a thread got last; given back when the thread ends."""

    def __init__(self, loose: deque[Key]):
        self.keys: list[Key] = []
        self._loose = loose

    def take(self) -> list[Key]:
        """All of it, which it holds no more."""
        keys, self.keys = self.keys, []
        return keys

    def __del__(self) -> None:
        self._loose.extend(self.keys)


def _wait(array: Any) -> None:
    # If it failed, or was donated meanwhile, it holds nothing any more either.
    try:
        array.block_until_ready()
    except Exception:
        return
