"""What an island says of arrays that it watches when others take them meanwhile, or they fail."""

import jax
import jax.numpy as jnp
import pytest
from byways.runtime.ray_island import Poison, ended
from byways.runtime.ray_wire import pack_error
from jax.sharding import NamedSharding, PartitionSpec


def test_what_is_computed_or_donated_is_no_failure():
    mesh = jax.make_mesh((2,), ("device",))
    array = jax.device_put(jnp.arange(4.0), NamedSharding(mesh, PartitionSpec("device")))
    assert ended(array) is None
    # As in the midst of a donation: one shard is gone, and the array does not know yet.
    array.addressable_shards[1].data.delete()
    assert not array.is_deleted()
    with pytest.raises(jax.errors.JaxRuntimeError, match="deleted or donated"):
        array.block_until_ready()
    assert ended([array]) is None
    array.delete()
    assert ended(array) is None


def test_what_failed_is():
    packed = pack_error(ValueError("no good"))
    assert ended([jnp.zeros(2), Poison(packed)]) == packed
