"""What the contract does not show of the dispatchers: other shapes, recomputed, mapped, in bf16.

`grouped` and `expert_parallel` have files of their own.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import Assignment, ExpertMlp, dispatch, mlp, route_top_k
from byways.routing.dispatch_blocked import dispatch_blocked
from hypothesis import given, settings
from hypothesis import strategies as st

from . import reference
from .contract import agree, plain_step

NAMES = ["blocked", "einsum", "index"]


@functools.cache
def routed(selected, capacity):
    return jax.jit(
        lambda logits, mask: route_top_k(logits, mask, selected=selected, capacity=capacity)
    )


def make(groups=2, tokens=12, width=4, hidden=6, experts=4, selected=2, capacity=4, seed=0):
    """An assignment with masked tokens, tokens, experts."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape).astype(np.float32))

    weights = ExpertMlp(
        normal(experts, width, hidden),
        normal(experts, hidden),
        normal(experts, hidden, width),
        normal(experts, width),
    )
    mask = rng.uniform(size=(groups, tokens)) < 0.8
    logits = normal(groups, tokens, experts)
    routing = routed(selected, capacity)(logits, mask)
    return routing.assignment, normal(groups, tokens, width), weights, np.asarray(logits), mask


@functools.cache
def optimised(name):
    """The output, compiled as users do: the contract's programs are not optimised."""
    return jax.jit(functools.partial(dispatch, name))


@functools.cache
def step(name, remat=False):
    """(assignment, tokens, experts) -> output, and gradients by experts, tokens and gates."""
    return jax.jit(plain_step(name, remat))


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(
    # (T, E, K, C): one expert, K of 1 and E, capacity tight, loose and none.
    shape=st.sampled_from([(5, 1, 1, 5), (16, 4, 1, 3), (16, 4, 4, 16), (16, 4, 2, None)]),
    seed=st.integers(0, 2**16),
)
def test_against_plain_loops(shape, seed):
    tokens, experts, selected, capacity = shape
    a, x, weights, logits, mask = make(
        tokens=tokens, experts=experts, selected=selected, capacity=capacity, seed=seed
    )
    gates = reference.softmax(np.asarray(logits, np.float64))
    expected = [
        reference.moe(
            weights.weights, reference.route(gates[g], mask[g], selected, capacity, True), x[g]
        )
        for g in range(2)
    ]
    for name in ["index", "einsum"] if capacity else ["blocked"]:
        got = optimised(name)(a, x, weights)
        assert got.dtype == jnp.float32
        agree(got, np.asarray(expected))
        assert not np.asarray(got)[~mask].any()


@pytest.mark.parametrize("name", NAMES)
def test_recomputed(name):
    arguments = make()[:3]
    agree(step(name, remat=True)(*arguments), step(name)(*arguments), 1e-5)
    agree(step(name)(*arguments), step("einsum")(*arguments), 1e-4)


@pytest.mark.parametrize("name", ["index", "einsum"])
def test_mapped_over_another_axis(name):
    """Outputs and gradients; `blocked` is mapped together with `grouped`."""
    (a, x, weights, *_), (b, y, *_) = make(), make(seed=1)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), (a, x), (b, y))
    both = jax.jit(jax.vmap(plain_step(name), in_axes=(0, 0, None)))(*stacked, weights)
    for i, pair in enumerate([(a, x), (b, y)]):
        agree(jax.tree.map(lambda leaf, i=i: leaf[i], both), step(name)(*pair, weights), 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_experts_float32_sums(name):
    a, x, weights, *_ = make()
    full, _ = step(name)(a, x, weights)
    half, grads = step(name)(a, x.astype(jnp.bfloat16), weights)
    assert half.dtype == jnp.float32
    scale = float(jnp.abs(full).max())
    np.testing.assert_allclose(half / scale, full / scale, atol=0.02)
    kinds = [jnp.float32] * 4 + [jnp.bfloat16, jnp.float32]
    assert [g.dtype for g in jax.tree.leaves(grads)] == kinds


@pytest.mark.parametrize("name", NAMES)
def test_nothing_kept_gives_zero_and_no_gradient(name):
    a, x, weights, *_ = make()
    nothing = dataclasses.replace(a, kept=jnp.zeros_like(a.kept))
    for leaf in jax.tree.leaves(step(name)(nothing, x, weights)):
        assert not leaf.any()


@pytest.mark.parametrize("name", NAMES)
def test_expert_layout_by_hand(name):
    """Pairs ordered by expert, where a token may be taken by all experts or by none."""
    _, x, weights, *_ = make()
    taken = Assignment(
        token=jnp.asarray([[1, 2, 1, 0]], jnp.int32),
        expert=jnp.asarray([[0, 0, 1, 1]], jnp.int32),
        slot=jnp.asarray([[0, 1, 0, 1]], jnp.int32),
        weight=jnp.asarray([[0.5, 0.25, 2.0, 9.0]]),
        routed=jnp.ones((1, 4), bool),
        kept=jnp.asarray([[True, True, True, False]]),
        num_tokens=3,
        num_experts=2,
        capacity=2,
        layout="expert",
    )
    two, x = jax.tree.map(lambda leaf: leaf[:2], weights), x[:1, :3]
    parts = [reference.expert(two.weights, e, np.asarray(x[0], np.float64)) for e in range(2)]
    expected = [np.zeros(4), 0.5 * parts[0][1] + 2.0 * parts[1][1], 0.25 * parts[0][2]]
    agree(jax.jit(functools.partial(dispatch, name))(taken, x, two)[0], np.stack(expected), 1e-5)


@pytest.mark.parametrize("block", [1, 64])
def test_blocked_at_any_block_size_and_any_imbalance(block):
    _, x, weights, *_ = make()
    blocked = jax.jit(functools.partial(dispatch_blocked, block=block))
    full = np.ones((2, 12), bool)
    for favourite in range(4):
        logits = np.zeros((2, 12, 4), np.float32)
        logits[..., favourite] = 5.0
        a = routed(2, None)(logits, full).assignment
        gates = reference.softmax(np.eye(4)[favourite] * 5.0)
        other = 0 if favourite else 1  # of three that are equal, the lower
        out = sum(
            gates[e] * reference.expert(weights.weights, e, np.asarray(x, np.float64))
            for e in (favourite, other)
        )
        agree(blocked(a, x, weights), out)


@pytest.mark.parametrize("name", ["index", "blocked"])
def test_sharded_groups_give_the_same(name):
    arguments = make(groups=4)[:3]
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    a, x = (jax.device_put(part, spread) for part in arguments[:2])
    agree(step(name)(a, x, arguments[2]), step("einsum")(*arguments), 1e-4)


@functools.cache
def every_expert_on_every_token():
    """The same sum with nothing sparse about it, and its gradients by JAX's own rules."""

    def loss(weights, x, assignment, cotangent):
        g = jnp.arange(x.shape[0])[:, None]
        share = jnp.zeros((*x.shape[:2], assignment.num_experts))
        weight = jnp.where(assignment.kept, assignment.weight, 0)
        share = share.at[g, assignment.token, assignment.expert].add(weight, mode="drop")
        out = jax.vmap(lambda *one: mlp(*one, x, weights.activation))(*weights.weights)
        out = jnp.einsum("gte,egtd->gtd", share, out)
        return jnp.sum(out * cotangent), out

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize("name", NAMES)
def test_experts_may_have_another_form_of_gelu(name):
    a, x, weights, *_ = make()
    weights = dataclasses.replace(weights, activation="quick_gelu")
    cotangent = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

    def loss(weights, x):
        out = dispatch(name, a, x, weights)
        return jnp.sum(out * cotangent), out

    found = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(weights, x)
    expected = every_expert_on_every_token()(weights, x, a, cotangent)
    jax.tree.map(lambda *pair: np.testing.assert_allclose(*pair, atol=2e-5), found, expected)
    usual = dispatch(name, a, x, dataclasses.replace(weights, activation="gelu_tanh"))
    assert abs(found[1] - usual).max() > 1e-3
