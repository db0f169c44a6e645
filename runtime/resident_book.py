"""The account of what is resident: who used it last, what holds it, and how often it was there."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Collection
from typing import Any

import jax

from .cold import Key, Tree


@dataclasses.dataclass(frozen=True)
class ResidentStats:
    """Counts since the beginning, or between two moments (`later - earlier`).

    Attributes:
        hits: items that were resident when they were asked for.
        misses: items that had to be fetched for it, prefetched ones too.
        evictions: items that were dropped to make room.
        fetched: bytes that were fetched, over all devices.
        live: bytes that are resident now, those being fetched included; of a difference the
            later's, as are the next three.
        peak: most of these at any time.
        items: resident items.
        budget: bytes.
    """

    hits: int
    misses: int
    evictions: int
    fetched: int
    live: int
    peak: int
    items: int
    budget: int

    @property
    def hit_rate(self) -> float:
        """Share of what was asked for that was resident; 1 where nothing was."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 1.0

    def __sub__(self, earlier: ResidentStats) -> ResidentStats:
        return dataclasses.replace(
            self,
            hits=self.hits - earlier.hits,
            misses=self.misses - earlier.misses,
            evictions=self.evictions - earlier.evictions,
            fetched=self.fetched - earlier.fetched,
        )


@dataclasses.dataclass(eq=False)
class Entry:
    """An item that is resident, or on its way.

    Attributes:
        size: bytes that are counted for it; 0 until there is room.
        tree: its arrays; None while they are being fetched.
        pins: calls whose arrays must stay.
        fresh: was prefetched, and nobody has asked for it yet.
        done: what must be computed before its memory is free.
    """

    size: int = 0
    tree: Tree | None = None
    pins: int = 0
    fresh: bool = False
    done: list[Any] = dataclasses.field(default_factory=list)

    def waits_for(self) -> list[Any]:
        """Of `done` what is not computed yet; forgets the rest."""
        # One that was donated says nothing any more.
        self.done = [x for x in self.done if not (x.is_deleted() or _ready(x))]
        return self.done


class Book:
    """Entries from the least to the most recently used. Not thread-safe: the owner locks."""

    def __init__(self, budget: int):
        self.budget = budget
        self.entries: OrderedDict[Key, Entry] = OrderedDict()
        self.hits = self.misses = self.evictions = self.fetched = self.live = self.peak = 0

    def resident(self, key: Key) -> bool:
        """It is here, whole."""
        entry = self.entries.get(key)
        return entry is not None and entry.tree is not None

    def loading(self, key: Key) -> bool:
        """It is being fetched."""
        entry = self.entries.get(key)
        return entry is not None and entry.tree is None

    def ask(self, key: Key) -> bool:
        """Pins an item, which becomes the latest, and counts; whether it must be fetched."""
        entry = self.entries.get(key)
        if entry is not None and any(x.is_deleted() for x in jax.tree.leaves(entry.tree)):
            self.forget(key)  # somebody donated it
            entry = None
        missing = entry is None
        if entry is None:
            entry = self.entries[key] = Entry()
        self.entries.move_to_end(key)
        entry.pins += 1
        if missing or entry.fresh:
            self.misses += 1
        else:
            self.hits += 1
        entry.fresh = False
        return missing

    def count(self, key: Key, size: int) -> None:
        """It takes so many bytes from now on."""
        self.entries[key].size = size
        self.live += size
        self.peak = max(self.peak, self.live)

    def arrive(self, key: Key, tree: Tree) -> None:
        """It is here."""
        entry = self.entries[key]
        entry.tree = tree
        self.fetched += entry.size

    def unpin(self, key: Key) -> None:
        """One call less needs it."""
        entry = self.entries.get(key)
        if entry is not None and entry.pins:
            entry.pins -= 1

    def victim(self, but: Collection[Key] = ()) -> Key | None:
        """The least recently used item that nobody needs."""
        for key, entry in self.entries.items():
            if not entry.pins and entry.tree is not None and key not in but:
                return key
        return None

    def forget(self, key: Key) -> None:
        """Drops it, and deletes its arrays, whoever else refers to them."""
        entry = self.entries.pop(key)
        self.live -= entry.size
        for array in jax.tree.leaves(entry.tree):
            array.delete()

    def stats(self) -> ResidentStats:
        """As of now."""
        return ResidentStats(
            hits=self.hits,
            misses=self.misses,
            evictions=self.evictions,
            fetched=self.fetched,
            live=self.live,
            peak=self.peak,
            items=sum(entry.tree is not None for entry in self.entries.values()),
            budget=self.budget,
        )


def _ready(array: Any) -> bool:
    return array.is_ready()
