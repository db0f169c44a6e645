"""The shared fixtures do what they say."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest


def test_eight_virtual_devices():
    assert len(jax.devices("cpu")) == 8


def test_submeshes(mesh):
    assert mesh.axis_names == ("data",)
    x = jax.device_put(
        jnp.arange(8.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    )
    assert len(x.addressable_shards) == mesh.size
    assert float(jax.jit(jnp.sum)(x)) == 28.0


@pytest.mark.parametrize("mesh", [4], indirect=True)
def test_a_test_may_choose_its_submesh(mesh):
    assert mesh.size == 4
