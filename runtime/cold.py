"""Where items lie until they are needed: what a cold store must do, and two that hold memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from .cold_errors import UnknownItem

Key = Hashable
Tree = Any


@runtime_checkable
class Cold(Protocol):
    """Items by key, each a pytree of arrays; reading one takes no device's memory."""

    def keys(self) -> Collection[Key]:
        """Of all items."""
        ...

    def shapes(self, key: Key) -> Tree:
        """The item with a `jax.ShapeDtypeStruct` for each array."""
        ...

    def read(self, key: Key) -> Tree:
        """The item: NumPy arrays, which may be views of the store, or arrays in host memory.

        Raises:
            UnknownItem, ColdFileError.
        """
        ...

    def expect(self, keys: Iterable[Key]) -> None:
        """These are read soon: a hint, which returns at once."""
        ...

    def close(self) -> None:
        """Nothing is read any more. May be called twice."""
        ...


class _Held:
    """Items that are in memory already."""

    _items: dict[Key, Tree]

    def keys(self) -> Collection[Key]:
        return self._items.keys()

    def shapes(self, key: Key) -> Tree:
        return shapes_of(item(self._items, key))

    def read(self, key: Key) -> Tree:
        return item(self._items, key)

    def expect(self, keys: Iterable[Key]) -> None:
        """They are here."""

    def close(self) -> None:
        self._items = {}


class InMemory(_Held):
    """Items as NumPy arrays, shared with the caller: not to be written to any more."""

    def __init__(self, items: Mapping[Key, Tree]):
        self._items = {key: jax.tree.map(np.asarray, tree) for key, tree in items.items()}


class PinnedHost(_Held):
    """Items in the devices' pinned host memory, from where they are fetched without a detour.

    Args:
        items: taken one by one.
        places: where each is to be fetched to later; its host's memory takes it until then.

    Raises:
        ValueError: a device has no pinned host memory.
    """

    def __init__(
        self,
        items: Iterable[tuple[Key, Tree]],
        places: Callable[[Key], jax.sharding.Sharding],
    ):
        self._items = {}
        for key, tree in items:
            # Waits, so that the caller's copies need not all be alive at once.
            self._items[key] = jax.block_until_ready(jax.device_put(tree, pinned(places(key))))


def pinned(place: jax.sharding.Sharding) -> jax.sharding.Sharding:
    """The same in pinned host memory.

    Raises:
        ValueError: a device has none.
    """
    for device in place.device_set:
        check_pinned(device)
    return place.with_memory_kind("pinned_host")


def check_pinned(device: Any) -> None:
    """Whether a device has pinned host memory, and other memory besides.

    Raises:
        ValueError: it has not.
    """
    kinds = [memory.kind for memory in device.addressable_memories()]
    if "pinned_host" not in kinds or device.default_memory().kind == "pinned_host":
        raise ValueError(
            f"{device} has the memories {', '.join(kinds)}, and no pinned host memory beside its "
            "own: keep cold items InMemory, or in a MappedFile"
        )


def shapes_of(tree: Tree) -> Tree:
    """Arrays replaced by their shapes and dtypes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def item(items: Mapping[Key, Any], key: Key) -> Any:
    """Of a store.

    Raises:
        UnknownItem: it is not there.
    """
    try:
        return items[key]
    except KeyError:
        few = ", ".join(map(repr, list(items)[:4]))
        raise UnknownItem(
            f"no item {key!r} among the {len(items)} of the cold store ({few}, …)"
            if items
            else f"no item {key!r}: the cold store is empty, or was closed"
        ) from None
