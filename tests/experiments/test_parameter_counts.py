"""The counts that `byways presets` prints, against the models themselves."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from byways.experiments.parameter_counts import count_parameters
from byways.experiments.presets import preset
from byways.models import Limoe

NAMES = ["limoe_tiny", "limoe_tiny_dense", "limoe_s32"]


def real_count(model):
    size, length = model.image_size, model.text_length
    inputs = (
        jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8),
        jax.ShapeDtypeStruct((1, length), jnp.int32),
        jax.ShapeDtypeStruct((1, length), jnp.bool_),
    )
    shapes = jax.eval_shape(Limoe(model).init, jax.random.key(0), *inputs)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", NAMES)
def test_the_total_is_the_models(name):
    model = preset(name).model
    assert count_parameters(model)[0] == real_count(model)


def test_awake_is_the_dense_twin_but_for_the_routers():
    sparse = preset("limoe_b16").model
    dense = preset("limoe_b16_dense").model
    routers = len(sparse.moe_layers) * sparse.width * sparse.moe.num_experts
    assert count_parameters(sparse)[1] == count_parameters(dense)[0] + routers


def test_the_papers_largest_model_has_its_size():
    # LIMoE H/14: about 5.6 B in all, 675 M for a token, under 0.5 M of them routers.
    total, awake = count_parameters(preset("limoe_h14").model)
    assert 5.4e9 < total < 5.7e9
    assert 0.66e9 < awake < 0.69e9


def test_two_experts_a_token_keep_two_awake():
    model = preset("limoe_b16").model
    two = dataclasses.replace(model, moe=dataclasses.replace(model.moe, selected=2))
    mlp = 2 * model.width * model.hidden + model.hidden + model.width
    extra = count_parameters(two)[1] - count_parameters(model)[1]
    assert extra == len(model.moe_layers) * mlp
