"""Items fetched when they are needed, so many as a budget of bytes lets stay; the rest lie cold."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax

from .cold import Cold, Key, Tree, item
from .cold_errors import BudgetTooSmall, ResidentsClosed
from .resident_book import Entry, ResidentStats
from .resident_copies import check_dtypes, fetch, held_bytes
from .resident_room import Room


class Residents:
    """A cache of items on devices: the least recently used leaves first.

    What `get` gave a thread stays until that thread calls `get` again, or says `used`; then it may
    be evicted, which deletes its arrays, so that a reference that was kept holds no memory.
    Programs that were dispatched with them compute what they would have: until then JAX keeps the
    bytes. So that such bytes count as live, say `used(key, result)`.

    Live bytes never exceed the budget; those of `stream` by one item at most.
    All methods may be called from any thread.

    Attributes:
        budget: bytes, over all devices together.
        largest: bytes of the largest item.
    """

    def __init__(
        self,
        cold: Cold,
        budget: int,
        places: Callable[[Key], jax.sharding.Sharding],
        *,
        patience: float = 60.0,
    ):
        """
        Args:
            cold: where items lie; it is closed with this.
            budget: bytes.
            places: by key where its arrays are needed.
            patience: seconds to wait for other threads to give room back.

        Raises:
            ValueError: a budget below 1; items of a dtype that JAX would narrow.
        """
        if budget < 1:
            raise ValueError(f"a budget of {budget} bytes holds nothing: give 1 or more")
        self.budget = budget
        self._cold = cold
        self._places = {key: places(key) for key in cold.keys()}  # noqa: SIM118
        self._sizes = {
            key: held_bytes(check_dtypes(key, cold.shapes(key)), place)
            for key, place in self._places.items()
        }
        self.largest = max(self._sizes.values(), default=0)
        self._wide: bool = jax.config.jax_enable_x64  # pyright: ignore
        self._room = Room(budget, patience)
        self._book, self._changed = self._room.book, self._room.changed
        # One call gathers its items at a time: two that hold half of each would wait forever.
        self._turn = threading.Lock()
        self._wishes: deque[tuple[Key, int]] = deque()
        self._wanted: frozenset[Key] = frozenset()
        self._worker: threading.Thread | None = None
        self._closed = False

    def __contains__(self, key: Key) -> bool:
        """It is resident now."""
        with self._changed:
            return self._book.resident(key)

    def size(self, key: Key) -> int:
        """Bytes of an item on its devices.

        Raises:
            UnknownItem: there is none.
        """
        return item(self._sizes, key)

    def get(self, keys: Iterable[Key]) -> list[Tree]:
        """The items; what is missing is fetched in one transfer, which may still be going on.

        Raises:
            UnknownItem: a key that is nowhere.
            BudgetTooSmall: together they are larger than the budget.
            ItemsInUse: other threads gave no room back in time.
            ColdFileError: they cannot be read.
        """
        keys = list(keys)
        wanted = list(dict.fromkeys(keys))
        need = sum(map(self.size, wanted))
        if need > self.budget:
            raise BudgetTooSmall(
                f"{len(wanted)} items of {need:,} bytes were asked for together, and the budget is "
                f"{self.budget:,}: make it {need:,} or more, or take them one by one with stream"
            )
        mine = self._room.pins()
        self._room.let_go(mine.take())
        found = self._gather(wanted, self.budget)
        mine.keys += wanted
        return [found[key] for key in keys]

    def stream(self, keys: Iterable[Key]) -> Iterator[tuple[Key, Tree]]:
        """The items one by one, in order, however many and large; the next is fetched meanwhile.

        An item stays until the next is taken. One that is larger than the budget is held alone.

        Raises:
            UnknownItem: at once. The others as `get`, when an item's turn comes.
        """
        keys = list(keys)
        for key in keys:
            self.size(key)
        return self._stream(keys)

    def prefetch(self, keys: Iterable[Key]) -> None:
        """Starts fetching what will be asked for next, as far as there is room, and returns.

        Room is made by what was used longest ago and is not among these keys, without waiting:
        what finds none is left to `get`, which is also where a failure to read shows. Takes the
        place of what an earlier call asked for and is not begun.

        Raises:
            UnknownItem.
        """
        keys = list(dict.fromkeys(keys))
        for key in keys:
            self.size(key)
        with self._changed:
            self._check_open()
            self._wanted = frozenset(keys)
            self._wishes.clear()
            for key in reversed(keys):  # what is needed first should leave last
                if self._book.resident(key):
                    self._book.entries.move_to_end(key)
            missing = [key for key in keys if key not in self._book.entries]
        self._cold.expect(missing)
        self._wish([(key, self.budget) for key in missing])

    def used(self, key: Key, done: Any) -> None:
        """This thread needs an item no more; its memory is free once `done` is computed.

        Args:
            key: from `get` or `stream`.
            done: an array or future, or a tree of them, of the last program that was given the
                item. It is kept until it is computed: a small one holds little memory. One that
                is donated before tells nothing.
        """
        arrays = [x.array() if hasattr(x, "array") else x for x in jax.tree.leaves(done)]
        with self._changed:
            entry = self._book.entries.get(key)
            if entry is not None and entry.tree is not None:
                entry.waits_for().extend(arrays)
        mine = self._room.pins()
        if key in mine.keys:
            mine.keys.remove(key)
            self._room.let_go([key])

    def stats(self) -> ResidentStats:
        """Counters."""
        with self._changed:
            return self._book.stats()

    def clear(self) -> None:
        """Evicts all that no other thread needs, once what was dispatched with it is computed."""
        self._room.let_go(self._room.pins().take())
        with self._turn, self._changed:
            self._room.drop_all()

    def close(self) -> None:
        """Drops everything, and closes the cold store. May be called twice."""
        with self._turn, self._changed:
            self._closed = True
            self._wishes.clear()
            while self._worker is not None:
                self._changed.wait()
            for entry in self._book.entries.values():
                entry.pins = 0
            self._room.drop_all()
        self._cold.close()

    def __enter__(self) -> Residents:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ResidentsClosed("these residents were closed: make others to go on")

    # Gathering, for a caller who waits.

    def _gather(self, keys: Sequence[Key], limit: int) -> dict[Key, Tree]:
        """Pins and fetches; `limit` is on live bytes, those of what is fetched included."""
        book = self._book
        with self._turn:
            with self._changed:
                while any(map(book.loading, keys)):  # by the worker
                    self._changed.wait()
                self._check_open()
                # Wishes that are fulfilled here would otherwise be so again, when they are stale.
                self._wanted -= frozenset(keys)
                for wish in [wish for wish in self._wishes if wish[0] in keys]:
                    self._wishes.remove(wish)
                missing = [key for key in keys if book.ask(key)]
                try:
                    need = sum(self._sizes[key] for key in missing)
                    self._room.make(need, limit)
                    for key in missing:
                        book.count(key, self._sizes[key])
                except BaseException:
                    self._undo(keys, missing)
                    raise
            try:
                trees = self._fetch(missing)
            except BaseException:
                with self._changed:
                    self._undo(keys, missing)
                raise
            with self._changed:
                for key, tree in zip(missing, trees, strict=True):
                    book.arrive(key, tree)
                self._changed.notify_all()
                return {key: book.entries[key].tree for key in keys}

    def _undo(self, keys: Sequence[Key], missing: Collection[Key]) -> None:
        for key in missing:
            self._book.forget(key)
        for key in keys:
            self._book.unpin(key)
        self._changed.notify_all()

    def _stream(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Tree]]:
        for here, key in enumerate(keys):
            found = self._gather([key], max(self.budget, self._sizes[key]))
            try:
                for after in keys[here + 1 : here + 2]:
                    self._cold.expect([after])
                    # The one item above the budget.
                    self._wish([(after, self.budget + self.largest)])
                yield key, found.pop(key)
            finally:
                # Without a lock, since a generator may be closed anywhere.
                self._room.loose.append(key)

    def _fetch(self, keys: Sequence[Key]) -> list[Tree]:
        # The setting is each thread's own; a narrower copy would not be the item.
        with jax.enable_x64(self._wide):
            return fetch([self._cold.read(key) for key in keys], [self._places[k] for k in keys])

    # Fetching ahead, by a thread that lives as long as there is something to fetch.

    def _wish(self, wishes: Sequence[tuple[Key, int]]) -> None:
        """Keys, each with its limit on live bytes."""
        with self._changed:
            if self._closed:
                return
            self._wishes.extend(wish for wish in wishes if wish[0] not in self._book.entries)
            if self._wishes and self._worker is None:
                self._worker = threading.Thread(
                    target=self._work, name="byways residents", daemon=True
                )
                self._worker.start()

    def _work(self) -> None:
        book = self._book
        while True:
            with self._changed:
                if not self._wishes:
                    self._worker = None
                    self._changed.notify_all()
                    return
                key, limit = self._wishes.popleft()
                size = self._sizes[key]
                if key in book.entries:
                    continue
                if not self._room.make(size, limit, wait=False, but=self._wanted):
                    # What is needed later must not take the room that this one waits for.
                    self._wishes.clear()
                    continue
                book.entries[key] = Entry(fresh=True)
                book.count(key, size)
            try:
                (tree,) = self._fetch([key])
            except Exception:  # whoever asks for it meets the same
                tree = None
            with self._changed:
                if tree is None:
                    book.forget(key)
                else:
                    book.arrive(key, tree)
                self._changed.notify_all()
