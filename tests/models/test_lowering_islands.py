"""A lowered model whose experts live on islands elsewhere: the same numbers as at home."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import lower

from byways import runtime as rt

from ..runtime.attached import client_of, controlled
from ..runtime.ray_in_process import NearIslands
from .test_lowering import assert_close, batch, objective, stacked


@pytest.fixture(scope="module")
def system():
    hosts = NearIslands(2)
    with hosts.runtime() as made:
        yield made
    hosts.close()


@pytest.mark.parametrize("there", [pytest.param(True, marks=pytest.mark.slow), False])
def test_values_and_gradients_are_those_of_this_process(system, there):
    """Experts in turn on two islands; a batch with text and one without."""
    params, images, texts = batch()
    real = jnp.full(texts.shape, there)
    here, home = (system.virtual_devices(f"island{n}").add_slice(1) for n in range(2))
    function, args = objective("pathways"), (params, images, texts, real)
    near, far = lower(function, *args), lower(function, *args, slices=[here, home])
    wanted, gradients = near.value_and_grad(0)(*near.split(*args))
    loss, found = far.value_and_grad(0)(*far.split(*args))
    np.testing.assert_allclose(loss.result(), wanted.result(), rtol=1e-6)
    assert_close(stacked(rt.fetch(found)), stacked(gradients))
    assert [list(one) for one in far.awake()] == [list(one) for one in near.awake()]


def test_a_client_of_a_cluster_lowers_nothing():
    with rt.Runtime() as own, controlled(own) as controller, client_of(controller) as client:
        part = client.virtual_devices().add_slice(1)
        params, images, texts = batch()
        with pytest.raises(ValueError, match="lower onto slices of a Runtime or a RayRuntime"):
            lower(objective("pathways"), params, images, texts, texts > 0, slices=[part])


def test_experts_are_split_and_joined_bit_for_bit(system):
    params, images, texts = batch()
    slices = [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
    args = (params, images, texts, texts > 0)
    low = lower(objective("pathways"), *args, slices=slices)
    again = low.join(*low.split(*args))
    jax.tree.map(np.testing.assert_array_equal, again, args)
