"""Who is chosen, in what order, and what a mask may change: nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import pair_of_slot, route_random, route_top_k
from hypothesis import given, settings
from hypothesis import strategies as st

from . import reference

# One compilation of the whole rather than one for each operation.
route = jax.jit(
    route_top_k, static_argnames=("selected", "capacity", "batch_priority", "noise_std")
)


def as_pairs(routing, group):
    """The assignment of a group as {(token, choice): (expert, place, gate, kept)}."""
    a = jax.device_get(routing.assignment)
    k = a.pairs_per_token
    rows = {}
    for p in range(a.token.shape[1]):
        if a.routed[group, p]:
            t = int(a.token[group, p])
            rows[t, p - t * k] = tuple(
                x[group, p].item() for x in (a.expert, a.slot, a.weight, a.kept)
            )
    return rows


def logits_of(gates):
    """Logits whose softmax is exactly these gates."""
    return jnp.log(jnp.asarray(gates, jnp.float32))[None]


# Four tokens, two experts. Tokens 0 and 2 may be image patches and 1 and 3 words: the
# router does not know. Top gates, in order: token 1 (.9), 3 (.8), 2 (.7), 0 (.6).
GATES = [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]


def test_batch_priority_by_hand():
    routing = route(logits_of(GATES), selected=2, capacity=2)
    places = {pair: (e, place, kept) for pair, (e, place, _, kept) in as_pairs(routing, 0).items()}
    assert places == {
        # First choices, by descending gate: 3 alone wants expert 1; 1, 2, 0 want expert 0.
        (1, 0): (0, 0, True),
        (3, 0): (1, 0, True),
        (2, 0): (0, 1, True),
        (0, 0): (0, 2, False),
        # Second choices in the same order. Token 3 comes fourth at expert 0: that token 0 was
        # turned away there does not make its place free.
        (1, 1): (1, 1, True),
        (3, 1): (0, 3, False),
        (2, 1): (1, 2, False),
        (0, 1): (1, 3, False),
    }
    # Not renormalised: the gates are the softmax over all experts.
    weights = routing.assignment.weight[0].reshape(4, 2)
    np.testing.assert_allclose(weights, [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.8, 0.2]], rtol=1e-6)


def test_token_order_by_hand():
    routing = route(logits_of(GATES), selected=1, capacity=2, batch_priority=False)
    places = {t: (e, place, kept) for (t, _), (e, place, _, kept) in as_pairs(routing, 0).items()}
    assert places == {0: (0, 0, True), 1: (0, 1, True), 2: (0, 2, False), 3: (1, 0, True)}


def test_ties_go_to_the_lower_expert_and_the_lower_token():
    routing = route(jnp.zeros((1, 5, 4)), selected=3, capacity=2)
    for (t, k), (e, place, gate, kept) in as_pairs(routing, 0).items():
        assert (e, place, kept) == (k, t, t < 2)
        assert gate == 0.25


def test_slots_invert_to_pairs():
    routing = route(logits_of(GATES), selected=2, capacity=2)
    # Pairs are t*2+choice: expert 0 holds tokens 1 and 2, expert 1 tokens 3 and 1.
    assert pair_of_slot(routing.assignment).tolist() == [[2, 4, 6, 3]]
    masked = route(
        logits_of(GATES), jnp.asarray([[False, False, False, True]]), selected=2, capacity=2
    )
    assert pair_of_slot(masked.assignment).tolist() == [[7, 8, 6, 8]]  # 8 is an empty slot
    with pytest.raises(ValueError, match="blocked"):
        pair_of_slot(route(logits_of(GATES), selected=1, capacity=None).assignment)


@settings(max_examples=12, deadline=None)
@given(
    # (T, E, K, C, priority): K of 1, some and E; capacity tight, loose and none.
    shape=st.sampled_from(
        [
            (1, 1, 1, 1, True),
            (7, 3, 3, 2, True),
            (16, 8, 2, 4, True),
            (16, 8, 2, 2, False),
            (16, 8, 1, None, True),
        ]
    ),
    share=st.sampled_from([0.0, 0.8, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_against_plain_loops(shape, share, seed):
    tokens, experts, selected, capacity, priority = shape
    rng = np.random.default_rng(seed)
    # Few distinct logits, so that ties are common.
    logits = rng.integers(-2, 3, (2, tokens, experts)).astype(np.float32)
    mask = rng.uniform(size=(2, tokens)) < share
    routing = route(
        jnp.asarray(logits),
        jnp.asarray(mask),
        selected=selected,
        capacity=capacity,
        batch_priority=priority,
    )
    gates = np.asarray(jax.nn.softmax(logits))
    for g in range(2):
        expected = reference.route(gates[g], mask[g], selected, capacity, priority)
        got = as_pairs(routing, g)
        assert len(got) == len(expected)
        for t, k, e, place, gate, kept in expected:
            assert (got[t, k][0], got[t, k][1], got[t, k][3]) == (e, place, kept)
            assert got[t, k][2] == pytest.approx(gate, rel=1e-5)


def test_noise_is_scaled_by_one_over_experts_and_changes_the_choice():
    logits = jnp.asarray([[[0.0, 0.1, 0.0, 0.0]]])
    noise = jnp.asarray([[[0.8, 0.0, 0.0, 0.0]]])
    # noise_std/E = 1/4: expert 0 reaches 0.2 and overtakes expert 1 at 0.1.
    routing = route(logits, selected=1, capacity=1, noise=noise)
    assert routing.sigma == 0.25
    np.testing.assert_allclose(routing.noisy_logits, [[[0.2, 0.1, 0.0, 0.0]]])
    np.testing.assert_allclose(routing.logits, logits)
    assert routing.assignment.expert.tolist() == [[0]]
    expected = reference.softmax(np.asarray([0.2, 0.1, 0.0, 0.0]))[0]  # the gate is noisy, too
    assert routing.assignment.weight.item() == pytest.approx(expected, rel=1e-6)
    off = route(logits, selected=1, capacity=1, noise=noise, noise_std=0.0)
    assert (off.sigma, off.assignment.expert.item()) == (0.0, 1)


def test_masked_tokens_hold_nothing_and_change_nothing():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 12, 4)).astype(np.float32)
    noise = rng.standard_normal((2, 12, 4)).astype(np.float32)
    mask = rng.uniform(size=(2, 12)) < 0.6

    def run(logits, noise):
        logits, noise = jnp.asarray(logits, jnp.float32), jnp.asarray(noise, jnp.float32)
        return route(logits, jnp.asarray(mask), selected=2, capacity=3, noise=noise)

    before = jax.device_get(run(logits, noise))
    for rubbish in (np.nan, np.inf, -1e30, 3.0):
        other = run(
            np.where(mask[..., None], logits, rubbish), np.where(mask[..., None], noise, rubbish)
        )
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(other), strict=True):
            assert np.array_equal(a, b)
    assert not before.assignment.routed.reshape(2, 12, 2)[~mask].any()
    # The valid tokens alone, without the others between them, go to the same places.
    for g in range(2):
        alone = route(
            jnp.asarray(logits[g : g + 1, mask[g]]),
            selected=2,
            capacity=3,
            noise=jnp.asarray(noise[g : g + 1, mask[g]]),
        )
        for key in ("expert", "slot", "kept", "weight"):
            together = getattr(before.assignment, key)[g].reshape(12, 2)[mask[g]]
            np.testing.assert_allclose(together.ravel(), getattr(alone.assignment, key)[0], 1e-6)


def test_all_masked():
    routing = route(jnp.ones((1, 4, 2)), jnp.zeros((1, 4), bool), selected=2, capacity=1)
    assert not routing.assignment.routed.any()
    assert pair_of_slot(routing.assignment).tolist() == [[8, 8]]


def test_random_router_draws_different_experts_uniformly():
    mask = jnp.ones((8, 64), bool).at[:, 60:].set(False)
    draw = jax.jit(lambda key: route_random(key, mask, 4, selected=2, capacity=30).assignment)
    drawn = jax.device_get(draw(jax.random.key(0)))
    counts = np.bincount(drawn.expert[drawn.routed], minlength=4)
    assert counts.sum() == 8 * 60 * 2
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.03)
    pairs = drawn.expert.reshape(8, 64, 2)
    assert (pairs[:, :60, 0] != pairs[:, :60, 1]).all()
    assert set(drawn.weight[drawn.routed].tolist()) == {0.5}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"selected": 3}, "1 <= K <= E"),
        ({"capacity": 0}, "capacity=0"),
        ({"noise_std": -1.0}, "noise_std=-1.0"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        route_top_k(jnp.zeros((1, 2, 2)), **({"selected": 1, "capacity": 1} | arguments))
