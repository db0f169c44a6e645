"""Dispatchers inside `jax.shard_map` as it comes: tokens in shards, experts on every device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    ExpertMlp,
    dispatch,
    dispatch_soft,
    route_expert_choice,
    route_random,
    route_soft,
    route_top_k,
)
from byways.routing.dispatch_grouped import KernelProducts, dispatch_grouped
from jax.sharding import PartitionSpec

from ..conftest import make_mesh
from .contract import agree

G, T, E, K, C, D, H = 2, 6, 3, 2, 4, 3, 4


def drawn():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    experts = ExpertMlp(normal(E, D, H), normal(E, H), normal(E, H, D), normal(E, D))
    return experts, normal(G, T, D), normal(G, T, E)


def plain_dot(left, right, sizes, dims):
    return jax.lax.ragged_dot_general(left, right, sizes, dims)


def soft(assignment, x, experts):
    """As a dispatcher: it makes its own dense weights, of the same slots on every device."""
    return dispatch_soft(route_soft(x, jnp.cos(jnp.ones((D, E, 2))), jnp.ones(())), x, experts)


NAMES = ("index", "einsum", "blocked", "grouped", "pathways")
DISPATCHERS = {name: functools.partial(dispatch, name) for name in NAMES}
DISPATCHERS |= {
    "kernels": functools.partial(dispatch_grouped, products=KernelProducts(plain_dot)),
    "soft": soft,
}


def route(kind, logits):
    if kind == "top_k":
        return route_top_k(logits, selected=K, capacity=C).assignment
    if kind == "expert_choice":
        return route_expert_choice(logits, capacity=C).assignment
    # One draw for all devices: what the router made varies over none of them, the tokens do.
    mask = jnp.ones((1, T), bool)
    drawn = route_random(jax.random.key(0), mask, E, selected=K, capacity=C).assignment
    if logits.shape[0] == 1:
        return drawn
    return jax.tree.map(lambda leaf: jnp.repeat(leaf, logits.shape[0], axis=0), drawn)


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "top_k") for name in DISPATCHERS]
    + [(name, kind) for name in ("index", "blocked") for kind in ("expert_choice", "random")],
)
def test_the_same_in_shards_as_on_one_device(name, kind):
    """Values, and gradients by experts, tokens and logits, the gates' own among them."""

    def loss(experts, x, logits, scale):
        assignment = route(kind, logits)
        assignment = dataclasses.replace(assignment, weight=assignment.weight * scale)
        return jnp.sum(jnp.sin(DISPATCHERS[name](assignment, x, experts)))

    def shard(*arguments):
        return jax.lax.psum(loss(*arguments), "data")

    each, all_ = PartitionSpec("data"), PartitionSpec()
    spread = jax.shard_map(
        shard, mesh=make_mesh(2), in_specs=(all_, each, each, all_), out_specs=all_
    )
    arguments = (*drawn(), jnp.ones(()))
    both = jax.jit(
        lambda *a: [jax.value_and_grad(f, argnums=(0, 1, 2, 3))(*a) for f in (spread, loss)]
    )
    got, want = both(*arguments)
    agree(got, want, 1e-5)


def test_gradients_of_devices_add_up_in_the_type_of_the_weights():
    """Rows in bfloat16, weights in float32: the sum over devices must not round twice."""
    experts, x, logits = drawn()

    def shard(experts, x, logits):
        out = dispatch("blocked", route("top_k", logits), x.astype(jnp.bfloat16), experts)
        return jax.lax.psum(jnp.sum(out), "data")

    each, all_ = PartitionSpec("data"), PartitionSpec()
    spread = jax.shard_map(shard, mesh=make_mesh(2), in_specs=(all_, each, each), out_specs=all_)
    text = str(jax.make_jaxpr(jax.grad(spread))(experts, x, logits))
    sums = [line for line in text.splitlines() if " psum" in line]
    assert len(sums) >= 4
    assert not any("bf16" in line for line in sums)
