"""Slices of a cluster's islands, as a client that is attached knows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import AbstractMesh

from .errors import ProgramError
from .resources import Island, Slice

if TYPE_CHECKING:
    from .attach_system import Attached


class AttachedIsland(Island):
    """An island as a client knows it.

    Attributes:
        devices: what they are called.
    """

    def __init__(self, name: str, devices: Any = (), lost: bool = False):
        self.name, self.devices, self.lost = name, list(devices), lost


class AttachedSlice(Slice):
    """A slice by the controller's number. Which devices it stands on is known there alone.

    Attributes:
        number: the controller's.
    """

    def __init__(self, system: Attached, number: int, island: Island, shape: Mapping[str, int]):
        self._system, self.number = system, number
        self.island, self.shape, self.version = island, dict(shape), 0

    @property
    def system(self) -> Any:
        """The `Attached` that it belongs to."""
        return self._system

    @property
    def backend(self) -> Any:
        raise self._elsewhere()

    @property
    def devices(self) -> Any:
        raise self._elsewhere()

    @property
    def mesh(self) -> AbstractMesh:
        """An abstract one, for `jax.shard_map` and shardings inside a computation."""
        shape = self.shape or {"device": 1}
        return AbstractMesh(tuple(shape.values()), tuple(shape))

    def put(self, tree: Any) -> Any:
        """A tree of arrays, whole on each device of the slice; gives futures at once.

        Args:
            tree: of arrays and numbers.
        """
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(structure, self._system.put(self, leaves))

    def _elsewhere(self) -> ProgramError:
        return ProgramError(
            f"{self!r} is a slice of a cluster, whose controller alone knows its devices: compile "
            "by program.compile(…), and place arrays by put(…)"
        )


@dataclasses.dataclass(frozen=True)
class AttachedDevices:
    """A wish for devices of a cluster, as `VirtualDeviceSet`.

    Attributes:
        system: the `Attached`.
        island: its name; None is the least crowded, slice by slice.
    """

    system: Any
    island: str | None

    def add_slice(self, shape: int | Mapping[str, int] = 1) -> AttachedSlice:
        """A slice of so many devices, or of a mesh's shape.

        One that another client left, if there is such a one, so that who comes back and asks for
        the same gets the same.

        Args:
            shape: n devices along an axis `device`, or the size of each axis by its name.

        Raises:
            SliceError: the island has fewer devices, or a size is below 1.
            IslandLost: the island is gone.
        """
        named = {"device": shape} if isinstance(shape, int) else dict(shape)
        number, island, size = self.system.ask("slice", self.island, named)
        return self.system.slice(number, island, size)
