"""What one run holds while it goes: bytes by island, and who still needs which slot."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax

from .graph import nbytes, opaque

if TYPE_CHECKING:
    from .client import Client
    from .graph import Node
    from .plan import Plan
    from .run import Run
    from .store import Store


class Holding:
    """An account of a run's slots, kept with the store.

    Attributes:
        left: parts that will still use a slot that several do.
    """

    def __init__(self, plan: Plan, store: Store, client: Client):
        self._plan, self._store, self._client = plan, store, client.name
        self.left = dict(plan.uses)
        self._held: dict[str, int] = {}  # bytes by island
        self._dynamic: dict[int, int] = {}  # bytes of slots that conditional nodes filled

    def reserved(self, island: str, peak: int, change: int) -> None:
        """A segment is sent, for which the store has counted `peak`; `change` stays."""
        self._held[island] = self._held.get(island, 0) + change
        if peak != change:
            self._store.note(island, self._client, change - peak)

    @contextlib.contextmanager
    def foreseen(self, run: Run, node: Node) -> Iterator[None]:
        """Waits for room for a conditional node's outputs, and keeps it while they are made.

        Raises:
            StoreFull: there will be none.
        """
        assert node.slice is not None
        island, store = node.slice.island, self._store
        if store.budget is None:
            yield
            return
        need = sum(nbytes(shape) for shape in node.outputs if not opaque(shape))
        store.reserve(island, run, node.name, need, run.system.schedulers[island.name])
        try:
            yield
        finally:
            store.note(island.name, self._client, -need)

    def fill(self, slot: int, out: Any, island: str) -> None:
        """A conditional node has filled a slot, with what nobody could foresee."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(out) if hasattr(leaf, "nbytes"))
        self._dynamic[slot] = size
        self._held[island] = self._held.get(island, 0) + size
        self._store.note(island, self._client, size)

    def size(self, slot: int) -> int:
        """Bytes of a slot."""
        return self._dynamic.get(slot) or self._plan.sizes[slot]

    def drop(self, slots: Sequence[int]) -> None:
        """These are empty, and no segment has counted that."""
        gone: dict[str, int] = {}
        sizes, islands = self._plan.sizes, self._plan.islands
        for slot in slots:  # of large programs hundreds
            size = self._dynamic.pop(slot, 0) or sizes[slot]
            if size:
                island = islands[slot]
                gone[island] = gone.get(island, 0) + size
        for island, size in gone.items():
            self._held[island] = self._held.get(island, 0) - size
            self._store.note(island, self._client, -size)

    def give(self, slot: int) -> int:
        """Bytes of a slot, which a value takes over; where two do, each has them."""
        size = self.size(slot)
        if size:
            island = self._plan.islands[slot]
            self._held[island] = self._held.get(island, 0) - size
        return size

    def close(self) -> None:
        """Nothing is held any more."""
        for island, held in self._held.items():
            if held:
                self._store.note(island, self._client, -held)
        self._held.clear()
        self._dynamic.clear()
        self.left.clear()
