"""Every dispatcher gives the same answer, and it is the right one."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import DISPATCHERS, Assignment, ExpertMlp, dispatch, mlp, route_top_k
from byways.routing.dispatch_blocked import dispatch_blocked
from hypothesis import given, settings
from hypothesis import strategies as st

from . import reference

# Two have files of their own: `expert_parallel`, which needs a mesh, and `grouped`, which on a
# CPU is the same program as `blocked`.
NAMES = sorted(set(DISPATCHERS) - {"expert_parallel", "grouped"})


def make(groups=2, tokens=12, width=4, hidden=6, experts=4, selected=2, capacity=4, seed=0):
    """An assignment with masked tokens, tokens, experts."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    weights = ExpertMlp(
        normal(experts, width, hidden),
        normal(experts, hidden),
        normal(experts, hidden, width),
        normal(experts, width),
    )
    mask = rng.uniform(size=(groups, tokens)) < 0.8
    logits = normal(groups, tokens, experts)
    routing = routed(selected, capacity)(logits, jnp.asarray(mask))
    return routing, normal(groups, tokens, width), weights, np.asarray(logits), mask


@functools.cache
def run(name):
    """The jitted dispatcher."""
    return jax.jit(functools.partial(dispatch, name))


@functools.cache
def routed(selected, capacity):
    return jax.jit(
        lambda logits, mask: route_top_k(logits, mask, selected=selected, capacity=capacity)
    )


def leaves(weights):
    return (weights.up, weights.up_bias, weights.down, weights.down_bias)


@settings(max_examples=12, deadline=None)
@given(
    # (T, E, K, C): one expert, K of 1 and E, capacity tight, loose and none.
    shape=st.sampled_from([(5, 1, 1, 5), (16, 4, 1, 3), (16, 4, 4, 16), (16, 4, 2, None)]),
    seed=st.integers(0, 2**16),
)
def test_against_plain_loops(shape, seed):
    tokens, experts, selected, capacity = shape
    routing, x, weights, logits, mask = make(
        tokens=tokens, experts=experts, selected=selected, capacity=capacity, seed=seed
    )
    gates = reference.softmax(np.asarray(logits, np.float64))
    expected = [
        reference.moe(
            leaves(weights), reference.route(gates[g], mask[g], selected, capacity, True), x[g]
        )
        for g in range(2)
    ]
    for name in NAMES if capacity else ["blocked"]:
        got = run(name)(routing.assignment, x, weights)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-4)
        assert not np.asarray(got)[~mask].any()


@functools.cache
def gradients(name, remat=False):
    """Gradients by experts, tokens and gates of a loss that is not linear in the output."""

    def loss(weights, x, gates, assignment):
        placed = dataclasses.replace(assignment, weight=gates)
        return jnp.sum(jnp.sin(dispatch(name, placed, x, weights)))

    grad = jax.jit(jax.grad(jax.checkpoint(loss) if remat else loss, argnums=(0, 1, 2)))
    return lambda a, x, w: grad(w, x, a.weight, a)


@pytest.mark.parametrize("capacity", [2, 12])
def test_gradients_agree(capacity):
    routing, x, weights, *_ = make(capacity=capacity)
    expected = gradients("einsum")(routing.assignment, x, weights)
    for name, remat in itertools.product(NAMES, (False, True)):
        got = gradients(name, remat)(routing.assignment, x, weights)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_gradients_against_finite_differences():
    """Through router, gates and experts, against differences of the float64 loops."""
    _, x, weights, logits, mask = make(groups=1, tokens=6, width=3, hidden=4, capacity=2)
    x, logits, mask = np.asarray(x, np.float64), logits.astype(np.float64)[0], mask[0]
    kernel = np.random.default_rng(1).standard_normal((3, 4))

    def slow(x, kernel, up, down):
        pairs = reference.route(reference.softmax(x @ kernel + logits), mask, 2, 2, True)
        return np.sin(reference.moe((up, weights.up_bias, down, weights.down_bias), pairs, x)).sum()

    @functools.partial(jax.jit, static_argnums=4)
    @functools.partial(jax.grad, argnums=(0, 1, 2, 3))
    def fast(x, kernel, up, down, name):
        routed = route_top_k(
            (x @ kernel + jnp.asarray(logits, jnp.float32))[None],
            jnp.asarray(mask)[None],
            selected=2,
            capacity=2,
        )
        experts = ExpertMlp(up, weights.up_bias, down, weights.down_bias)
        return jnp.sum(jnp.sin(dispatch(name, routed.assignment, x[None], experts)))

    arguments = [x[0], kernel, *(np.asarray(w, np.float64) for w in (weights.up, weights.down))]
    rng = np.random.default_rng(2)
    for name in NAMES:
        got = fast(*(jnp.asarray(a, jnp.float32) for a in arguments), name)
        for i, argument in enumerate(arguments):
            direction = rng.standard_normal(argument.shape)
            ends = []
            for sign in (1, -1):
                moved = list(arguments)
                moved[i] = argument + sign * 1e-6 * direction
                ends.append(slow(*moved))
            slope = (ends[0] - ends[1]) / 2e-6
            assert np.vdot(got[i], direction) == pytest.approx(slope, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_one_expert_is_the_dense_mlp(name):
    routing, x, weights, _, mask = make(experts=1, selected=1, capacity=12)
    dense = mlp(*(leaf[0] for leaf in leaves(weights)), x)
    got = run(name)(routing.assignment, x, weights)
    np.testing.assert_allclose(got, np.where(mask[..., None], dense, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_conservation(name):
    """With experts that return their input, a token comes back times the sum of its gates."""
    routing, x, *_ = make(width=4, hidden=8, capacity=2)
    # gelu(x) - gelu(-x) = x, exactly so for the tanh form as well.
    eye = jnp.concatenate([jnp.eye(4), -jnp.eye(4)], axis=1)
    same = ExpertMlp(
        jnp.broadcast_to(eye, (4, 4, 8)),
        jnp.zeros((4, 8)),
        jnp.broadcast_to(eye.T, (4, 8, 4)),
        jnp.zeros((4, 4)),
    )
    a = routing.assignment
    gates = np.asarray(jnp.where(a.kept, a.weight, 0)).reshape(2, 12, 2).sum(-1)
    got = run(name)(a, x, same)
    np.testing.assert_allclose(got, gates[..., None] * x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_permuting_the_tokens_permutes_the_outputs(name):
    _, x, weights, logits, mask = make(capacity=3)
    order = np.random.default_rng(5).permutation(12)

    def whole(logits, mask, x):
        routing = routed(2, 3)(jnp.asarray(logits), jnp.asarray(mask))
        return run(name)(routing.assignment, x, weights)

    straight = whole(logits, mask, x)
    mixed = whole(logits[:, order], mask[:, order], x[:, order])
    np.testing.assert_allclose(mixed, np.asarray(straight)[:, order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_unrouted_tokens_may_hold_anything(name):
    """Bit for bit, values and gradients, whatever lies where nothing is routed."""
    routing, x, weights, _, mask = make()
    clean = jnp.where(mask[..., None], x, 0)
    rubbish = jnp.where(mask[..., None], x, jnp.nan)
    step = gradients(name)
    assert np.array_equal(
        run(name)(routing.assignment, clean, weights),
        run(name)(routing.assignment, rubbish, weights),
    )
    for a, b in zip(
        jax.tree.leaves(step(routing.assignment, clean, weights)),
        jax.tree.leaves(step(routing.assignment, rubbish, weights)),
        strict=True,
    ):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_experts_float32_sums(name):
    routing, x, weights, *_ = make(hidden=16)
    full = run(name)(routing.assignment, x, weights)
    half = run(name)(routing.assignment, x.astype(jnp.bfloat16), weights)
    assert half.dtype == jnp.float32
    scale = float(jnp.abs(full).max())
    np.testing.assert_allclose(half / scale, full / scale, atol=0.02)
    grads = gradients(name)(routing.assignment, x.astype(jnp.bfloat16), weights)
    assert [g.dtype for g in jax.tree.leaves(grads)] == [jnp.float32] * 4 + [
        jnp.bfloat16,
        jnp.float32,
    ]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_kept_gives_zero_and_no_gradient(name):
    routing, x, weights, *_ = make()
    nothing = dataclasses.replace(routing.assignment, kept=jnp.zeros_like(routing.assignment.kept))
    assert not run(name)(nothing, x, weights).any()
    for leaf in jax.tree.leaves(gradients(name)(nothing, x, weights)):
        assert not leaf.any()


@pytest.mark.parametrize("name", NAMES)
def test_expert_layout(name):
    """Pairs ordered by expert, where a token may be taken by all experts or by none."""
    _, x, weights, *_ = make(groups=1, tokens=3, experts=2, selected=1)
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
    parts = [mlp(*(leaf[e] for leaf in leaves(weights)), x[0]) for e in range(2)]
    expected = [jnp.zeros(4), 0.5 * parts[0][1] + 2.0 * parts[1][1], 0.25 * parts[0][2]]
    got = run(name)(taken, x, weights)
    np.testing.assert_allclose(got[0], jnp.stack(expected), rtol=1e-5, atol=1e-5)
    for a, b in zip(
        jax.tree.leaves(gradients(name)(taken, x, weights)),
        jax.tree.leaves(gradients("einsum")(taken, x, weights)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocked_at_any_block_size_and_any_imbalance(block):
    _, x, weights, *_ = make()
    blocked = jax.jit(functools.partial(dispatch_blocked, block=block))
    for favourite in range(4):
        logits = jnp.zeros((2, 12, 4)).at[..., favourite].set(5.0)
        a = routed(1, None)(logits, jnp.ones((2, 12), bool)).assignment
        np.testing.assert_allclose(
            blocked(a, x, weights),
            run("einsum")(dataclasses.replace(a, capacity=12), x, weights),
            rtol=1e-4,
            atol=1e-4,
        )


@pytest.mark.parametrize("name", ["index", "blocked"])
def test_sharded_groups_give_the_same(name):
    routing, x, weights, *_ = make(groups=4)
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ("data",))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    step = gradients(name)
    alone = step(routing.assignment, x, weights)
    apart = step(jax.device_put(routing.assignment, spread), jax.device_put(x, spread), weights)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(apart), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_index_cost_does_not_grow_with_experts():
    def flops(experts):
        size = 256 // experts
        routing, x, weights, *_ = make(
            groups=1, tokens=256, width=32, hidden=64, experts=experts, selected=1, capacity=size
        )

        def loss(weights, x, a):
            return jnp.sum(jnp.sin(dispatch("index", a, x, weights)))

        step = jax.jit(jax.grad(loss, argnums=(0, 1)))
        cost = step.lower(weights, x, routing.assignment).compile().cost_analysis()
        return cost["flops"]

    assert flops(32) <= 1.1 * flops(8)


def test_bad_values_are_named():
    routing, x, weights, *_ = make(capacity=None)
    for name in ("index", "einsum"):
        with pytest.raises(ValueError, match="dropless"):
            dispatch(name, routing.assignment, x, weights)
    with pytest.raises(ValueError, match=r"\(2, 11\)"):
        dispatch("blocked", routing.assignment, x[:, :11], weights)
