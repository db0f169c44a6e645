"""The Linen layer: each router, shared and fine-grained experts, another K to evaluate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models.config import MoeConfig
from byways.models.mlp import Mlp
from byways.models.moe import Moe

from .contract import agree, same_bits

G, T, D, H, M = 2, 8, 5, 6, 2
CONFIG = MoeConfig(num_experts=4, selected=2, capacity_factor=1.0, noise_std=0.0)


def layer(**options):
    return Moe(dataclasses.replace(CONFIG, **options), hidden=H, num_modalities=M)


def inputs(seed=0):
    rng = np.random.default_rng(seed)
    return (
        jnp.asarray(rng.standard_normal((G, T, D)).astype(np.float32)),
        jnp.asarray(rng.uniform(size=(G, T)) < 0.8),
        jnp.asarray(rng.integers(0, M, (G, T)).astype(np.int32)),
    )


def ids():
    return jnp.arange(G * T, dtype=jnp.int32).reshape(G, T)


def start(moe, train=False):
    return moe.init(jax.random.key(0), *inputs(), train=train, ids=ids())


def shapes(**options):
    """Shapes of the parameters but the experts' biases."""
    made = jax.eval_shape(lambda: start(layer(**options)))["params"]
    found = {
        "/".join(k.key for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(made)
    }
    return {name: shape for name, shape in found.items() if "Mlp" not in name}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"Router/dense/kernel": (D, 4)}),
        ({"router": "sigmoid"}, {"Router/dense/kernel": (D, 4)}),
        ({"router": "switch", "selected": 1}, {"Router/dense/kernel": (D, 4)}),
        ({"router": "expert_choice"}, {"Router/dense/kernel": (D, 4)}),
        ({"router": "hash"}, {}),
        ({"router": "random"}, {}),
        ({"bias": "sign"}, {"Router/dense/kernel": (D, 4), "Router/bias": (4,)}),
        ({"task": "added"}, {"Router/dense/kernel": (D, 4), "Router/task": (M, 4)}),
        ({"task": "alone"}, {"Router/task": (M, 4)}),
        ({"router": "soft", "soft_slots": 3}, {"Router/mu": (D, 4, 3), "Router/scale": ()}),
        ({"granularity": 3}, {"Router/dense/kernel": (D, 12)}),
        (
            {"shared_experts": 2},
            {
                "Router/dense/kernel": (D, 4),
                "Shared/Dense_0/kernel": (D, 2 * H),
                "Shared/Dense_0/bias": (2 * H,),
                "Shared/Dense_1/kernel": (2 * H, D),
                "Shared/Dense_1/bias": (D,),
            },
        ),
    ],
)
def test_parameters(options, expected):
    assert shapes(**options) == expected


def test_fine_grained_experts_are_pieces():
    """Experts cut in two, their pieces wanted alike, give what the whole ones give.

    An MLP of width H is the sum of two of width H/2. With each router column twice, the softmax
    gives each piece half its expert's gate, so that twice the second layer makes up for it.
    """
    whole, fine = layer(), layer(granularity=2)
    params = jax.jit(lambda: start(whole))()["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: jnp.asarray(rng.standard_normal(p.shape).astype(np.float32)), params
    )
    first, second = params["Mlp"]["Dense_0"], params["Mlp"]["Dense_1"]
    up = first["kernel"].reshape(4, D, 2, H // 2).swapaxes(1, 2).reshape(8, D, H // 2)
    cut = {
        "Router": {"dense": {"kernel": jnp.repeat(params["Router"]["dense"]["kernel"], 2, 1)}},
        "Mlp": {
            "Dense_0": {"kernel": up, "bias": first["bias"].reshape(8, H // 2)},
            "Dense_1": {
                "kernel": 2 * second["kernel"].reshape(8, H // 2, D),
                "bias": jnp.repeat(second["bias"], 2, 0),
            },
        },
    }
    out, _, a = jax.jit(lambda p: whole.apply({"params": p}, *inputs(), train=False))(params)
    pieces, _, b = jax.jit(lambda p: fine.apply({"params": p}, *inputs(), train=False))(cut)
    assert (a.pairs_per_token, b.pairs_per_token, b.num_experts) == (2, 4, 8)
    agree(pieces, out, 1e-4)


def test_fine_grained_experts_cost_the_same():
    def flops(granularity):
        config = dataclasses.replace(CONFIG, granularity=granularity)
        moe = Moe(config, hidden=256, num_modalities=1)
        x = jax.ShapeDtypeStruct((1, 256, 64), jnp.float32)
        mask = jax.ShapeDtypeStruct((1, 256), bool)
        modality = jax.ShapeDtypeStruct((1, 256), jnp.int32)
        params = jax.eval_shape(
            lambda x, m, n: moe.init(jax.random.key(0), x, m, n, train=True), x, mask, modality
        )

        def run(params, x, mask, modality):
            return moe.apply(params, x, mask, modality, train=True)[0]

        return jax.jit(run).lower(params, x, mask, modality).compile().cost_analysis()["flops"]

    # The router alone has four times the columns.
    assert flops(4) == pytest.approx(flops(1), rel=0.05)


def test_shared_experts_are_added_and_see_no_masked_token():
    moe = layer(shared_experts=2, router="expert_choice")
    x, mask, modality = inputs()
    params = jax.jit(lambda: start(moe))()
    rest = {"params": {k: v for k, v in params["params"].items() if k != "Shared"}}

    @jax.jit
    def run(x):
        def loss(params, x):
            out, _, _ = moe.apply(params, x, mask, modality, train=True)
            return jnp.sum(jnp.sin(out)), out

        routed, _, _ = layer(router="expert_choice").apply(rest, x, mask, modality, train=True)
        shared = Mlp(2 * H).apply({"params": params["params"]["Shared"]}, x)
        return jax.grad(loss, argnums=(0, 1), has_aux=True)(params, x), routed, shared

    (grads, out), routed, shared = run(x)
    agree(out, np.where(mask[..., None], routed + shared, 0), 1e-5)
    for rubbish in (1e20, jnp.nan):
        (other, again), _, _ = run(jnp.where(mask[..., None], x, rubbish))
        same_bits((other, again), (grads, out))


def test_soft_routing_in_the_layer():
    moe = layer(router="soft", soft_slots=2)
    x, mask, modality = inputs()
    params = jax.jit(lambda: start(moe))()
    out, sums, made = jax.jit(lambda x: moe.apply(params, x, mask, modality, train=True))(x)
    assert (sums, made) == (None, None)
    assert out.shape == x.shape
    assert not np.asarray(out)[~np.asarray(mask)].any()


def test_another_number_of_experts_to_evaluate():
    moe = layer(selected=1, eval_selected=3)
    params = jax.eval_shape(lambda: start(moe))

    def made(train):
        run = jax.eval_shape(lambda p: moe.apply(p, *inputs(), train=train), params)
        return run[2].pairs_per_token, run[2].capacity, run[1].selected

    # Training: C = 8*1/4 = 2 slots; evaluation is dropless.
    assert made(True) == (1, 2, 1)
    assert made(False) == (3, None, 3)


def test_ids_are_wanted_by_the_hash_router_alone():
    with pytest.raises(ValueError, match="'hash' needs ids"):
        jax.eval_shape(lambda: layer(router="hash").init(jax.random.key(0), *inputs(), train=False))
