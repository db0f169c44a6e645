"""A gate trained on real patches with a toy task: it collapses without balancing.

Eight linear experts, K=1, 512 patches in 4 groups; each patch is to be mapped as a fixed random
network does. All methods train at once, as rows of one compiled program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from byways.routing import (
    auxiliary_losses,
    route_expert_choice,
    route_top_k,
    routing_statistics,
    routing_sums,
    update_bias,
)

from .real_tokens import WIDTH, patches

EXPERTS, STEPS, SHAPE = 8, 300, (4, 128)
WANTED = ("max_vio", "dead", "min_load", "usage", "left_behind")
# Weights of the losses importance, load, gshard, switch; rates of the bias rules sign, z_score.
METHODS = {
    "none": (0, 0, 0, 0, 0, 0),
    "importance and load": (0.5, 0.5, 0, 0, 0, 0),
    "gshard": (0, 0, 1, 0, 0, 0),
    "switch": (0, 0, 0, 1, 0, 0),
    "loss-free, sign": (0, 0, 0, 0, 0.02, 0),
    "loss-free, z-score": (0, 0, 0, 0, 0, 0.01),
}


def summed(gate, tokens, bias, noise=None):
    logits = jnp.einsum("gtd,de->gte", tokens, gate)
    routing = route_top_k(logits, selected=1, capacity=None, bias=bias, noise=noise)
    return routing, routing_sums(routing, jnp.zeros(SHAPE, jnp.int32), 1)


def loss(params, bias, tokens, targets, weights, noise):
    routing, sums = summed(params["gate"], tokens, bias, noise)
    pairs = routing.assignment
    chosen = pairs.expert[..., None] == jnp.arange(EXPERTS)
    combine = chosen * pairs.weight[..., None]
    outputs = jnp.einsum("gtd,edf,gte->gtf", tokens, params["experts"], combine)
    terms = auxiliary_losses(sums, ["image"], importance=True, load=True, gshard=True, switch=True)
    total = jnp.mean(jnp.square(outputs - targets)) + jnp.vdot(
        weights, jnp.stack([*terms.values()])
    )
    return total, sums.assigned[0]


@functools.cache
def trained():
    """Statistics of the gates after training by each method, without noise: of their own choice,
    and of expert choice by their logits."""
    optimiser = optax.adam(1e-2)

    def train(tokens, method):
        keys = jax.random.split(jax.random.key(0), 4)
        up = jax.random.normal(keys[0], (WIDTH, 2 * WIDTH)) / 4
        targets = jnp.abs(tokens @ up) @ jax.random.normal(keys[1], (2 * WIDTH, WIDTH)) / 4
        params = {
            "gate": 0.1 * jax.random.normal(keys[2], (WIDTH, EXPERTS)),
            "experts": 0.1 * jax.random.normal(keys[3], (EXPERTS, WIDTH, WIDTH)),
        }

        def step(state, number):
            params, moments, bias = state
            noise = jax.random.normal(jax.random.key(number), (*SHAPE, EXPERTS))
            slope, wanted = jax.grad(loss, has_aux=True)(
                params, bias, tokens, targets, method[:4], noise
            )
            updates, moments = optimiser.update(slope, moments)
            still = jnp.zeros(EXPERTS)
            bias += method[4] * update_bias(still, wanted, rate=1.0, rule="sign")
            bias += method[5] * update_bias(still, wanted, rate=1.0, rule="z_score")
            return (optax.apply_updates(params, updates), moments, bias), None

        start = (params, optimiser.init(params), jnp.zeros(EXPERTS))
        (params, _, bias), _ = jax.lax.scan(step, start, jnp.arange(STEPS))
        routing, sums = summed(params["gate"], tokens, bias)
        taken = route_expert_choice(routing.logits, capacity=SHAPE[1] // EXPERTS)
        chosen = routing_sums(taken, jnp.zeros(SHAPE, jnp.int32), 1)
        return tuple(
            {name: getattr(routing_statistics(made), name) for name in WANTED}
            for made in (sums, chosen)
        )

    run = jax.jit(jax.vmap(train, in_axes=(None, 0)))
    tokens = jnp.asarray(patches(SHAPE[0] * SHAPE[1]).reshape(*SHAPE, WIDTH))
    return jax.device_get(run(tokens, jnp.asarray([*METHODS.values()], jnp.float32)))


def test_it_collapses_without_balancing():
    got, _ = trained()
    assert got["max_vio"][0] > 3.0  # half of the patches on one expert of eight
    assert got["dead"][0] >= 1


def test_each_method_balances():
    got, _ = trained()
    violation = dict(zip(METHODS, np.asarray(got["max_vio"]).tolist(), strict=True))
    for method in [*METHODS][1:]:
        assert violation[method] < 1.0, violation
    assert not got["dead"][1:].any()
    assert (got["min_load"][1:] > 0.2 / EXPERTS).all()
    # The loss-free rules act on the very counts.
    assert violation["loss-free, sign"] < 0.5
    assert violation["loss-free, z-score"] < 0.5


def test_expert_choice_balances_any_gate():
    _, got = trained()
    np.testing.assert_array_equal(got["max_vio"], 0.0)
    np.testing.assert_array_equal(got["usage"], 1.0)
    # What it pays instead: tokens that no expert takes, most of all by the collapsed gate.
    assert got["left_behind"][0] > 0.2
