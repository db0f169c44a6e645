"""How an array is spread over devices, in words that another process understands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from .transfer_errors import TransferError


class Layout(NamedTuple):
    """The mesh and the axes of an array; on one device, or the same on all, there are none.

    Attributes:
        mesh: (name, size) of each axis.
        spec: for each dimension of the array the axes that it is cut along.
    """

    mesh: tuple[tuple[str, int], ...] = ()
    spec: tuple[tuple[str, ...], ...] = ()

    @property
    def devices(self) -> int:
        """How many hold the array's buffers."""
        return math.prod(size for _, size in self.mesh)

    def to_json(self) -> list[Any]:
        """Lists of strings and numbers."""
        return [[list(axis) for axis in self.mesh], [list(axes) for axes in self.spec]]

    @classmethod
    def from_json(cls, told: Any) -> Layout:
        """What `to_json` gave.

        Raises:
            ValueError, TypeError: it gave something else.
        """
        mesh, spec = told
        return cls(
            tuple((str(name), int(size)) for name, size in mesh),
            tuple(tuple(map(str, axes)) for axes in spec),
        )


ONE = Layout()


def layout_of(array: jax.Array) -> tuple[Layout, jax.Array]:
    """An array's layout, and what of it has to travel: of one that is whole on every device, one.

    Raises:
        TransferError: it is spread in a way that has no name, or over other processes.
    """
    sharding = array.sharding
    if isinstance(sharding, SingleDeviceSharding):
        return ONE, array
    if not array.is_fully_addressable:
        raise TransferError(
            f"an array {array.dtype}{list(array.shape)} is spread over several processes: each "
            "offers its own part, `array.addressable_shards`"
        )
    if sharding.is_fully_replicated:
        return ONE, array.addressable_data(0)
    if not isinstance(sharding, NamedSharding):
        raise TransferError(
            f"an array {array.dtype}{list(array.shape)} is spread by {sharding}, which has no "
            "axes to name: jax.device_put it to a NamedSharding first"
        )
    spec = tuple(
        (axes,) if isinstance(axes, str) else tuple(axes or ())  # pyright: ignore
        for axes in sharding.spec
    )
    return Layout(tuple(sharding.mesh.shape.items()), spec), array


def sharding_here(layout: Layout, devices: Sequence[Any]) -> Any:
    """The same layout over this process's devices, in their order.

    Raises:
        TransferError: they are too few.
    """
    if layout.devices > len(devices):
        raise TransferError(
            f"an array comes spread over {layout.devices} devices ({_axes(layout)}), and here are "
            f"{len(devices)}: offer it from fewer devices, or give more to pull it onto"
        )
    if not layout.mesh:
        return SingleDeviceSharding(devices[0])
    names, sizes = zip(*layout.mesh, strict=True)
    mesh = Mesh(np.array(devices[: layout.devices]).reshape(sizes), names)
    return NamedSharding(mesh, PartitionSpec(*(axes or None for axes in layout.spec)))


def devices_of(sharding: Sharding) -> tuple[Any, ...]:
    """A sharding's devices in its own order."""
    if isinstance(sharding, NamedSharding):
        mesh: Any = sharding.mesh
        return tuple(mesh.devices.flat)
    return tuple(sorted(sharding.device_set, key=lambda device: device.id))


def _axes(layout: Layout) -> str:
    return ", ".join(f"{name}={size}" for name, size in layout.mesh)
