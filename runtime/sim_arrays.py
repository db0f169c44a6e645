"""Arrays without numbers: a shape, where it lies, and the task that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.sharding import PartitionSpec, Sharding

from .cuts import cut_shape, cuts_of
from .errors import ProgramError
from .graph import Shape, nbytes
from .sim_engine import Engine, Group, Task


class SimSharding(Sharding):
    """How an array lies on a group of devices.

    Attributes:
        group: the devices.
        axes: size of each axis of the mesh, by its name.
        spec: names of the axes over which each dimension is cut; trailing whole ones left out.
    """

    def __init__(self, group: Group, axes: Mapping[str, int], spec: PartitionSpec | None):
        self.group, self.axes = group, dict(axes)
        self.spec = cuts_of(spec, axes)
        self._key = (group, self.spec, tuple(axes.items()) if self.spec else ())

    @property
    def device_set(self) -> Any:
        """The group, which answers what a plan asks of a set at no cost per device."""
        return self.group

    @property
    def is_fully_replicated(self) -> bool:
        return not self.spec

    def shard_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of what one device has.

        Raises:
            ProgramError: it does not divide.
        """
        return cut_shape(shape, self.spec, self.axes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimSharding) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"SimSharding({len(self.group)} devices, {self.spec})"


class SimArray:
    """What a simulated node makes: all of an array but its numbers.

    Attributes:
        shape, dtype: of the whole array.
        sharding: where it lies.
        task: what makes it; None is there from the beginning.
    """

    __slots__ = ("__weakref__", "_deleted", "_engine", "dtype", "shape", "sharding", "task")

    def __init__(self, engine: Engine, shape: Shape, sharding: SimSharding, task: Task | None):
        self._engine, self.shape, self.dtype = engine, shape.shape, shape.dtype
        self.sharding, self.task, self._deleted = sharding, task, False

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return nbytes(Shape(self.shape, self.dtype))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def is_ready(self) -> bool:
        """Whether the controller knows by now, in simulated time, that it is computed."""
        with self._engine.timed():
            return self._engine.reached(self.task)

    def poll(self) -> bool:
        """As `is_ready`, by somebody who has nothing else to do: time goes on until it is."""
        ready = self.is_ready()
        if not ready:
            self.block_until_ready()
        return ready

    def block_until_ready(self) -> SimArray:
        """Lets simulated time go on until the controller knows that it is computed."""
        if self._deleted:
            raise RuntimeError("this simulated array has been deleted or donated")
        with self._engine.timed():
            self._engine.wait(self.task)
        return self

    def wait_at_most(self, seconds: float) -> bool:
        """Waits so many simulated seconds; whether it is there."""
        with self._engine.timed():
            return self._engine.wait(self.task, seconds)

    def is_deleted(self) -> bool:
        return self._deleted

    def delete(self) -> None:
        """It was donated, or is not wanted any more."""
        self._deleted = True

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ProgramError(
            f"{self!r} has no numbers: a simulated runtime computes times only; ask the runtime "
            "for `now`, `end` or `totals`, or run the program on real devices"
        )

    def __repr__(self) -> str:
        return f"SimArray({self.dtype}{list(self.shape)} on {len(self.sharding.group)})"
