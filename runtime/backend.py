"""What a runtime asks of whatever its islands are made of, all of it while programs are lowered.

A run itself only calls what was lowered, so a back end costs nothing per node. `Local` is the
devices of this process, `ray_backend` those of others; `sim_backend` is a model of devices that are
not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

if TYPE_CHECKING:
    from .computations import Executable, FlatComputation
    from .graph import Shape
    from .resources import Slice
    from .steps import Expansion, Mover, Segment

# Nodes in a turn. A turn is what the scheduler grants, so it must be short enough to share fairly.
LONGEST = 16


@runtime_checkable
class Backend(Protocol):
    """Arrays here are `jax.Array`s, or what passes for them: `shape`, `dtype`, `nbytes`,
    `sharding`, `is_ready()`, `is_deleted()`, `block_until_ready()`.

    Attributes:
        moves_shards: an array that is spread over devices can go to others as it is; else it is
            first made whole on each of its own.
        longest: most nodes of a segment, which is enqueued in one turn.
    """

    moves_shards: bool
    longest: int

    @property
    def put(self) -> Callable[..., Sequence[Any]]:
        """Arrays and a sharding for each, to arrays that are (or will be) there."""
        ...

    def sharding(self, part: Slice, spec: PartitionSpec | None) -> Any:
        """Of an array on a slice; None is replicated."""
        ...

    def compile(self, flat: FlatComputation, inputs: tuple[Shape, ...]) -> Executable:
        """A function for the devices that its slice has now."""
        ...

    def mover(self, targets: Sequence[Any]) -> Mover:
        """The call that copies one array to each of these shardings."""
        ...

    def respread(self, shape: Shape, have: Any, wanted: Any) -> Callable[..., list[Any]]:
        """The call that spreads an array otherwise over its own devices."""
        ...

    def sending(self, parts: tuple[Segment | Expansion, ...]) -> tuple[Segment | Expansion, ...]:
        """A plan's parts as they are to be sent."""
        ...

    def recorder(self) -> Any:
        """A recorder of what is sent."""
        ...


class Local:
    """The JAX devices of this process."""

    moves_shards = False
    longest = LONGEST
    put = staticmethod(jax.device_put)

    def sharding(self, part: Slice, spec: PartitionSpec | None) -> Any:
        if part.size == 1:
            return SingleDeviceSharding(part.devices[0])
        return NamedSharding(part.mesh, PartitionSpec() if spec is None else spec)

    def compile(self, flat: FlatComputation, inputs: tuple[Shape, ...]) -> Executable:
        return flat.compile_for_jax(inputs)

    def mover(self, targets: Sequence[Any]) -> Mover:
        from .steps import Mover

        return Mover(targets)

    def respread(self, shape: Shape, have: Any, wanted: Any) -> Callable[..., list[Any]]:
        from .steps import resharder

        return resharder(shape.shape, shape.dtype, have, wanted)

    def sending(self, parts: tuple[Segment | Expansion, ...]) -> tuple[Segment | Expansion, ...]:
        return parts

    def recorder(self) -> Any:
        from .recorder import Recorder

        return Recorder()


LOCAL = Local()


def put_on(arrays: Sequence[Any], shardings: Sequence[Any]) -> list[Any]:
    """Arrays of this process on whatever back end's devices each of the shardings is, all of one.

    Returns before they are there.
    """
    backend = getattr(shardings[0], "backend", LOCAL) if shardings else LOCAL
    return list(backend.put(list(arrays), list(shardings)))
