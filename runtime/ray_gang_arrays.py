"""Arrays over devices of several hosts, as one of the hosts has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from .ray_wire import to_wire


class Elsewhere:
    """In the place of an array of which this host has nothing."""

    nbytes = 0


ELSEWHERE = Elsewhere()


def hosts_of(sharding: Sharding) -> tuple[int, ...]:
    """Numbers of the hosts whose devices an array lies on."""
    return tuple(sorted({device.process_index for device in sharding.device_set}))


def placed(value: Any, sharding: Sharding) -> jax.Array:
    """A whole array of this host, as far as its own devices have a part of it.

    Args:
        value: NumPy's or JAX's; the same on all hosts that have a part.
        sharding: over some of this host's devices, and others.
    """
    if sharding.is_fully_addressable:
        return jax.device_put(value, sharding)
    if jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        # Made of their numbers, which have one axis more.
        data = placed(jax.random.key_data(value), _of_data(sharding))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    where = sharding.addressable_devices_indices_map(value.shape)
    pieces = [jax.device_put(value[index], device) for device, index in where.items()]
    return jax.make_array_from_single_device_arrays(value.shape, sharding, pieces)


def own_copy(array: jax.Array) -> jax.Array:
    """An array that is whole on each of its devices, of this process's alone."""
    if array.is_fully_addressable:
        return array
    if not array.is_fully_replicated:
        raise ValueError(f"an array over {array.sharding} is on several hosts in pieces")
    return array.addressable_shards[0].data


def said_by(array: Any, host: int) -> Any:
    """What this host says of an array that is asked for.

    Returns:
        (whole, as `to_wire` has it, or None; pieces, as [(index, numbers)]; shape).
    """
    if type(array) is Elsewhere:
        return None, [], None
    if array.is_fully_addressable or array.is_fully_replicated:
        first = hosts_of(array.sharding)[0] == host
        return to_wire(own_copy(array)) if first else None, [], None
    kind = None
    if jax.numpy.issubdtype(array.dtype, jax.dtypes.prng_key):
        kind, array = str(jax.random.key_impl(array)), jax.random.key_data(array)
    pieces = [
        ([(cut.start, cut.stop) for cut in shard.index], np.asarray(shard.data))
        for shard in array.addressable_shards
        if shard.replica_id == 0
    ]
    return None, pieces, (array.shape, kind)


def whole_of(told: Sequence[Any]) -> Any:
    """What all hosts said of an array, as `to_wire` has it."""
    for whole, _, _ in told:
        if whole is not None:
            return whole
    found: Any = None
    kind = None
    for _, pieces, about in told:
        for index, numbers in pieces:
            if found is None:
                found, kind = np.empty(about[0], numbers.dtype), about[1]
            found[tuple(slice(*cut) for cut in index)] = numbers
    return found if kind is None else (kind, found)


def _of_data(sharding: Any) -> Sharding:
    """Of the numbers of random keys that are spread so."""
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec))
