"""Physical devices in islands, virtual slices of them, and the manager that maps one to the other.

A program is written against slices. Which devices a slice stands on is the manager's to say, and
may change while nothing of the slice is running: plans are made again when it does (Barham et
al. 2022, section 4.1).
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, PartitionSpec, Sharding

from .backend import LOCAL, Backend
from .devices import Device
from .errors import IslandLost, SliceError


class Island:
    """Devices between which the compiler's own collectives run.

    Attributes:
        name: of this island.
        devices: those that are there now.
        lost: the island is gone, with all that was on it.
        losses: how often it has gone.
    """

    def __init__(self, name: str, devices: Sequence[Device]):
        self.name, self.devices, self.lost, self.losses = name, list(devices), False, 0

    def __repr__(self) -> str:
        return f"Island({self.name!r}, {len(self.devices)} devices)"


class Slice:
    """Virtual devices in the shape of a mesh, on one island.

    Attributes:
        island: where it is.
        shape: size of each axis by its name; `{}` is one device.
        version: grows whenever the devices under it change.
    """

    def __init__(self, manager: ResourceManager, island: Island, shape: Mapping[str, int]):
        self.island, self.shape, self.version = island, dict(shape), 0
        self._manager = manager
        self._devices: tuple[Device, ...] | None = None

    @property
    def system(self) -> Any:
        """The runtime that it belongs to."""
        return self._manager.system

    @property
    def backend(self) -> Backend:
        """What its devices are: of this process, or a model of some."""
        return self._manager.backend

    @property
    def size(self) -> int:
        """How many devices."""
        return math.prod(self.shape.values())

    @property
    def devices(self) -> tuple[Device, ...]:
        """The physical devices, in the mesh's order.

        Raises:
            IslandLost: the island is gone.
            SliceError: devices were removed, and the rest are too few.
        """
        if self.island.lost:
            raise IslandLost(f"island {self.island.name!r} is lost, and {self!r} with it")
        if self._devices is None:
            raise SliceError(
                f"{self!r} has no devices any more: island {self.island.name!r} has "
                f"{len(self.island.devices)} of the {self.size} it needs; add devices to it"
            )
        return self._devices

    @property
    def mesh(self) -> Mesh | AbstractMesh:
        """The devices as a mesh with the axes of `shape` (`("device",)` where there are none).

        Of devices that are not this process's it is an abstract one: for `jax.shard_map` and
        shardings inside a computation, which becomes one of devices where that is compiled.
        """
        shape, devices = self.shape or {"device": 1}, self.devices
        if not isinstance(devices[0], jax.Device):
            return AbstractMesh(tuple(shape.values()), tuple(shape))
        return Mesh(np.array(devices).reshape(tuple(shape.values())), tuple(shape))

    def sharding(self, spec: PartitionSpec | None = None) -> Sharding:
        """Of an array on this slice; None is replicated."""
        return self.backend.sharding(self, spec)

    def put(self, tree: Any) -> Any:
        """A tree of arrays, whole on each device of the slice, wherever its island is.

        For what is kept there between programs, such as the parameters of a switch's branches.
        """
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(
            structure, self.backend.put(leaves, [self.sharding()] * len(leaves))
        )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape.values())) or "1"
        return f"Slice({self.island.name!r}, {shape})"


class VirtualDeviceSet:
    """A client's wish for devices: slices are added to it (`pw.make_virtual_device_set`)."""

    def __init__(self, manager: ResourceManager, island: Island):
        self.island, self._manager = island, manager

    def add_slice(self, shape: int | Mapping[str, int] = 1) -> Slice:
        """A slice of so many devices, or of a mesh's shape.

        Args:
            shape: n devices along an axis `device`, or the size of each axis by its name.

        Raises:
            SliceError: the island has fewer devices, or a size is below 1.
            IslandLost: the island is gone.
        """
        if isinstance(shape, int):
            shape = {"device": shape}
        return self._manager.map(Slice(self._manager, self.island, shape))


class ResourceManager:
    """Maps slices onto the least loaded devices of their island, and maps them again on change."""

    def __init__(self, islands: Mapping[str, Sequence[Device]], backend: Backend = LOCAL):
        if not islands:
            raise SliceError("a runtime needs an island, and was given none")
        self.backend = backend
        self.islands: dict[str, Island] = {}
        self._slices: weakref.WeakSet[Slice] = weakref.WeakSet()
        self._lock = threading.RLock()
        self.system: Any = None
        for name, devices in islands.items():
            self.add(name, devices)

    def island(self, name: str | None) -> Island:
        """By name; None is the one there is, or the one with the fewest slices to a device.

        Raises:
            SliceError: no such island.
        """
        if name is None:
            return min(self.islands.values(), key=self._crowding)
        if name not in self.islands:
            raise SliceError(f"no island {name!r}: there are {sorted(self.islands)}")
        return self.islands[name]

    def map(self, part: Slice) -> Slice:
        """Gives a new slice its devices."""
        bad = {axis: size for axis, size in part.shape.items() if size < 1}
        if bad:
            raise SliceError(f"a slice needs at least one device along each axis, got {bad}")
        if part.island.lost:
            raise IslandLost(
                f"island {part.island.name!r} is lost: take another, or restart_island"
            )
        there = len(part.island.devices)
        if part.size > there:
            raise SliceError(
                f"a slice of {part.size} devices does not fit island {part.island.name!r}, which "
                f"has {there}: ask for fewer, or take slices of several islands"
            )
        with self._lock:
            self._place(part)
            self._slices.add(part)
        return part

    def add_device(self, island: str, device: Device) -> None:
        """Adds a device; slices that had none to stand on get theirs."""
        with self._lock:
            place = self.island(island)
            if any(device in other.devices for other in self.islands.values()):
                raise SliceError(f"{device} belongs to an island already")
            place.devices.append(device)
            for part in list(self._slices):
                if part.island is place and part._devices is None and not place.lost:
                    self._place(part)

    def remove_device(self, island: str, device: Device) -> list[Slice]:
        """Takes a device away; slices on it move to others, or wait for new ones.

        Returns:
            the slices whose devices changed; their programs are lowered again when next called.
        """
        with self._lock:
            place = self.island(island)
            if device not in place.devices:
                raise SliceError(f"{device} is not on island {island!r}")
            place.devices.remove(device)
            moved = [p for p in self._slices if p._devices is not None and device in p._devices]
            for part in moved:
                part._devices = None
            for part in moved:
                self._place(part)
            return moved

    def add(self, name: str, devices: Sequence[Device]) -> Island:
        """A new island.

        Raises:
            SliceError: the name is taken, no devices, or one that is another island's.
        """
        with self._lock:
            if name in self.islands:
                raise SliceError(
                    f"there is an island {name!r}: take another name, or restart_island if it is "
                    "lost"
                )
            made = Island(name, devices)
            self._check_devices(made, made.devices)
            self.islands[name] = made
        return made

    def remove(self, island: str) -> None:
        """Forgets an island; its slices are lost with it.

        Raises:
            SliceError: no such island, or no other.
        """
        with self._lock:
            self.island(island)
            if len(self.islands) == 1:
                raise SliceError(f"island {island!r} is the only one: a runtime needs an island")
            self.lose(island)
            del self.islands[island]

    def lose(self, island: str) -> bool:
        """Marks an island as gone: no program on it can be lowered until it is restored.

        Returns:
            whether it was there before.
        """
        with self._lock:
            place = self.island(island)
            if place.lost:
                return False
            place.lost = True
            place.losses += 1
            for part in self._slices:
                if part.island is place:
                    part.version += 1
            return True

    def restore(self, island: str, devices: Sequence[Device] | None = None) -> None:
        """A lost island is there again, and its slices stand on the devices where they stood.

        Args:
            devices: in the order of the old ones; None is the old ones themselves. Where they are
                fewer, slices move to others, or wait for devices to be added.

        Raises:
            SliceError: no devices, or one that is another island's.
        """
        with self._lock:
            place = self.island(island)
            old, new = place.devices, list(place.devices if devices is None else devices)
            self._check_devices(place, new)
            place.devices, place.lost = new, False
            parts = [part for part in self._slices if part.island is place]
            stood = {part: [old.index(d) for d in part._devices or ()] for part in parts}
            for part in parts:
                where, part._devices = stood[part], None
                if where and max(where) < len(new):
                    part.version += 1
                    part._devices = tuple(new[n] for n in where)
            for part in parts:
                if part._devices is None:
                    self._place(part)

    def _check_devices(self, island: Island, devices: Sequence[Device]) -> None:
        if not devices:
            raise SliceError(f"island {island.name!r} has no devices")
        others = [other for other in self.islands.values() if other is not island]
        for n, device in enumerate(devices):
            for other in others:
                if device in other.devices:
                    raise SliceError(f"{device} is in islands {other.name!r}, {island.name!r}")
            if device in devices[:n]:
                raise SliceError(f"{device} is in islands {island.name!r}, {island.name!r}")

    def _place(self, part: Slice) -> None:
        part.version += 1
        part._devices = None
        devices = part.island.devices
        if len(devices) < part.size:
            return
        load = dict.fromkeys(devices, 0)
        for other in self._slices:
            for device in other._devices or ():
                if device in load:
                    load[device] += 1
        order = sorted(range(len(devices)), key=lambda n: (load[devices[n]], n))
        # In the island's own order, so that neighbours in the mesh are neighbours in the machine.
        part._devices = tuple(devices[n] for n in sorted(order[: part.size]))

    def _crowding(self, island: Island) -> tuple[bool, float]:
        used = sum(part.size for part in self._slices if part.island is island)
        return island.lost, used / max(1, len(island.devices))
