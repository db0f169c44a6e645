"""Arrays that are on an island: a handle here, the numbers there.

A handle exists as soon as what makes its array was put in the island's outbox. When the last
reference to it goes, the island is told to forget the array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from .cuts import Cuts, cut_shape, cuts_of
from .errors import ProgramError, ValueReleased
from .graph import Shape, nbytes
from .ray_wire import from_wire

if TYPE_CHECKING:
    from .ray_outbox import Outbox
    from .resources import Slice

# How an array is spread, for the island: indices of devices, axes of the mesh, and who cuts what.
Spread = tuple[tuple[int, ...], tuple[tuple[str, int], ...], Cuts]


class RaySharding(Sharding):
    """How an array lies on devices of an island.

    Attributes:
        backend: of the slice.
        outbox: the island's.
        spread: the same, as the island is told it.
        hosts: of the island that have a part.
    """

    def __init__(self, part: Slice, spec: PartitionSpec | None):
        """Raises ProgramError if the slice has no such axis."""
        devices: Any = part.devices
        self.backend = part.backend
        self.outbox: Outbox = devices[0].outbox
        self._axes, self._order = dict(part.shape), tuple(devices)
        self._devices = frozenset(devices)
        self.hosts = tuple(sorted({device.host for device in devices}))
        self.cuts = cuts_of(spec, self._axes)
        places = tuple(device.index for device in devices)
        self.spread: Spread = (places, tuple(self._axes.items()), self.cuts)
        self._key = self._order, self.cuts, tuple(self._axes.items()) if self.cuts else ()

    @property
    def device_set(self) -> Any:
        return self._devices

    @property
    def is_fully_replicated(self) -> bool:
        return not self.cuts

    def shard_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of what one device has.

        Raises:
            ValueError: it does not divide.
        """
        try:
            return cut_shape(shape, self.cuts, self._axes)
        except ProgramError as error:  # as of JAX's own, so that the node is named
            raise ValueError(str(error)) from None

    def whole(self) -> RaySharding:
        """The same devices, each with all of it."""
        found = RaySharding.__new__(RaySharding)
        found.__dict__.update(self.__dict__)
        found.cuts = ()
        found.spread = self.spread[0], self.spread[1], ()
        found._key = self._order, (), ()
        return found

    def is_equivalent_to(self, other: Any, ndim: int) -> bool:
        """Whether an array lies the same by both."""
        return self == other

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RaySharding) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"RaySharding({self.outbox.name!r}, {len(self._order)} devices, {self.cuts})"


class RayArray:
    """What a node on an island makes, or will make.

    Attributes:
        outbox: its island's.
        number: by which the island knows it.
        op: what makes it there.
        shape, dtype: of the whole array.
        sharding: where it lies.
    """

    __slots__ = (
        "__weakref__",
        "_deleted",
        "_here",
        "dtype",
        "number",
        "op",
        "outbox",
        "shape",
        "sharding",
    )

    def __init__(self, op: Any, number: int, shape: Shape, sharding: RaySharding):
        self.op, self.number, self.outbox = op, number, op.outbox
        self.shape, self.dtype, self.sharding = shape.shape, shape.dtype, sharding
        self._deleted, self._here = False, None

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return nbytes(Shape(self.shape, self.dtype))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def is_ready(self) -> bool:
        """Whether the island has said that it is computed, or will never be."""
        return self.op.is_ready()

    def block_until_ready(self) -> RayArray:
        """Raises what its node raised."""
        self._check()
        self.op.block_until_ready()
        return self

    def wait_at_most(self, seconds: float) -> bool:
        """Whether it is there within so many seconds."""
        return self.op.wait_at_most(seconds)

    def heard_at(self) -> float | None:
        """When this process heard that it is computed, by `perf_counter`."""
        return self.outbox.heard_at(self.op.number)

    def is_deleted(self) -> bool:
        return self._deleted

    def delete(self) -> None:
        """The island forgets it; may be called twice."""
        if not self._deleted:
            self._deleted = True
            self.outbox.freed.append(self.number)

    def donated(self) -> None:
        """A node has taken it over, and the island knows."""
        self._deleted = True

    def copy_to_host_async(self) -> None:
        """Nothing: what a program reads or returns comes by itself, if it is small."""

    def told(self, wire: Any) -> None:
        """Its numbers, which came with the news that it is computed."""
        self._here = wire

    def fetched(self) -> Any:
        """The same as a `jax.Array` of this process; waits for it, and is kept with the handle."""
        here = self._brought()
        if not isinstance(here, jax.Array):
            here = self._here = from_wire(here)
        return here

    def _brought(self) -> Any:
        """What is here of it, after it has been waited for: as it came, or as a `jax.Array`."""
        self._check()
        self.op.block_until_ready()
        if self._here is None:
            self._here = self.outbox.fetch(self.number)
        return self._here

    def _check(self) -> None:
        if self._deleted:
            raise ValueReleased(f"{self!r} was donated or deleted")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        here = self._brought()
        return np.asarray(self.fetched() if isinstance(here, tuple) else here, dtype)

    def __jax_array__(self) -> jax.Array:
        return self.fetched()

    def __del__(self) -> None:
        # Anywhere, at any time: nothing here takes a lock or names a global.
        try:
            if not self._deleted:
                self.outbox.freed.append(self.number)
        except AttributeError:
            pass

    def __repr__(self) -> str:
        return f"RayArray({self.dtype}{list(self.shape)} on {self.outbox.name!r})"
