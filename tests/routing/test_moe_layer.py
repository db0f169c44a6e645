"""The Linen layer over routing/: parameters, modes, masks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models.config import MoeConfig
from byways.models.mlp import Mlp
from byways.models.moe import Moe
from byways.routing import auxiliary_losses

CONFIG = MoeConfig(num_experts=4, selected=2, capacity_factor=1.0)


def layer(config=CONFIG, **more):
    return Moe(config, hidden=6, num_modalities=2, **more)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.standard_normal((2, 8, 5)), jnp.float32),
        jnp.asarray(rng.uniform(size=(2, 8)) < 0.8),
        jnp.asarray(rng.integers(0, 2, (2, 8))),
    )


def keys():
    return jax.random.split(jax.random.key(1), 2)


@pytest.fixture(scope="module")
def params():
    x, mask, modality = inputs()
    start = jax.jit(lambda key: layer().init(key, x, mask, modality, train=False))
    return start(jax.random.key(0))


def test_parameters_are_named_as_published_and_start_equal(params):
    shapes = {
        "/".join(k.key for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(params["params"])
    }
    assert shapes == {
        "Router/dense/kernel": (5, 4),
        "Mlp/Dense_0/kernel": (4, 5, 6),
        "Mlp/Dense_0/bias": (4, 6),
        "Mlp/Dense_1/kernel": (4, 6, 5),
        "Mlp/Dense_1/bias": (4, 5),
    }
    kernel = np.asarray(params["params"]["Mlp"]["Dense_0"]["kernel"])
    assert (kernel == kernel[:1]).all()
    # Xavier with the fans of one expert: |w| < sqrt(6 / (5 + 6)), and near it.
    assert 0.8 * np.sqrt(6 / 11) < np.abs(kernel).max() < np.sqrt(6 / 11)
    apart = jax.jit(
        lambda key: layer(shared_init=False).init(key, *inputs(), train=False)["params"]["Mlp"]
    )(jax.random.key(0))
    other = np.asarray(apart["Dense_0"]["kernel"])
    assert not (other[0] == other[1]).any()


def test_training_drops_and_evaluation_does_not(params):
    x, _, modality = inputs()
    full = jnp.ones((2, 8), bool)
    x = jnp.broadcast_to(x[:, :1], x.shape)  # all tokens of a group want the same two experts
    moe = layer(dataclasses.replace(CONFIG, noise_std=0.0))
    run = jax.jit(moe.apply, static_argnames="train")
    out, _, made = run(params, x, full, modality, train=True)
    assert (made.capacity, made.kept.sum()) == (4, 2 * 2 * 4)
    assert (np.abs(out).sum(-1) == 0).any()
    out, sums, made = run(params, x, full, modality, train=False)
    assert made.capacity is None
    assert made.kept.all()
    assert not sums.stochastic
    assert (np.abs(out).sum(-1) > 0).all()


def test_noise_wants_keys(params):
    with pytest.raises(ValueError, match="noise_keys"):
        layer().apply(params, *inputs(), train=True)
    quiet = layer(dataclasses.replace(CONFIG, noise_std=0.0))
    _, sums, _ = jax.jit(lambda p: quiet.apply(p, *inputs(), train=True))(params)
    assert not sums.stochastic


@pytest.mark.parametrize("dispatcher", ["index", "einsum"])
def test_what_padding_holds_changes_no_bit(params, dispatcher):
    x, mask, modality = inputs()
    moe = layer(dataclasses.replace(CONFIG, dispatcher=dispatcher))

    @jax.jit
    def step(params, x):
        def loss(params, x):
            out, sums, _ = moe.apply(params, x, mask, modality, train=True, noise_keys=keys())
            balance = auxiliary_losses(sums, ["a", "b"], importance=True, load=True, z=True)
            return jnp.sum(jnp.sin(out)) + sum(balance.values()), (out, sums)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    first = step(params, x)
    for rubbish in (jnp.nan, 1e20):
        other = step(params, jnp.where(mask[..., None], x, rubbish))
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
            assert np.array_equal(a, b)
    assert not np.asarray(first[0][1][0])[~np.asarray(mask)].any()


def test_bfloat16_keeps_the_router_in_float32(params):
    x, mask, modality = inputs()
    run = jax.jit(layer(dtype=jnp.bfloat16).apply, static_argnames="train")
    out, sums, made = run(params, x.astype(jnp.bfloat16), mask, modality, train=False)
    assert out.dtype == jnp.bfloat16
    assert made.weight.dtype == sums.z.dtype == jnp.float32


def test_one_expert_is_the_dense_block():
    x, _, modality = inputs()
    moe, mlp = layer(MoeConfig(num_experts=1)), Mlp(6)
    full = jnp.ones((2, 8), bool)
    params = jax.jit(lambda key: moe.init(key, x, full, modality, train=False))(jax.random.key(0))
    dense = {"params": jax.tree.map(lambda leaf: leaf[0], params["params"]["Mlp"])}
    out = jax.jit(lambda params: moe.apply(params, x, full, modality, train=False)[0])(params)
    np.testing.assert_allclose(out, jax.jit(mlp.apply)(dense, x), rtol=1e-5, atol=1e-5)
