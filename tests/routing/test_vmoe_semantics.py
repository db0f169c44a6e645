"""How the published V-MoE routes, each rule by a small example worked out by hand.

arXiv 2106.05974, sections 2 and 4, and its code (github.com/google-research/vmoe).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import expert_capacity, route_top_k

from . import reference
from .pairs import as_pairs

# One compilation of the whole rather than one for each operation.
route = jax.jit(
    route_top_k,
    static_argnames=("selected", "capacity", "batch_priority", "noise_std"),
)


def logits_of(gates):
    """Logits whose softmax is exactly these gates."""
    return jnp.log(jnp.asarray(gates, jnp.float32))[None]


def places(routing):
    """{(token, choice): (expert, place, kept)} of group 0."""
    return {key: (e, place, kept) for key, (e, place, _, kept) in as_pairs(routing, 0).items()}


# Four tokens, two experts. Tokens 0 and 2 may be image patches and 1 and 3 words: the
# router does not know. Top gates, in order: token 1 (.9), 3 (.8), 2 (.7), 0 (.6).
GATES = [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]


def test_batch_priority_first_choices_first_and_the_dropped_count():
    routing = route(logits_of(GATES), selected=2, capacity=2)
    assert places(routing) == {
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


def test_gates_are_not_renormalised():
    routing = route(logits_of(GATES), selected=2, capacity=2)
    weights = routing.assignment.weight[0].reshape(4, 2)
    # Both of two experts are chosen: each row of GATES, sorted.
    np.testing.assert_allclose(weights, [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.8, 0.2]], rtol=1e-6)
    # One of two: still the softmax over both, not 1.
    one = route(logits_of(GATES), selected=1, capacity=2, batch_priority=False)
    np.testing.assert_allclose(one.assignment.weight, [[0.6, 0.9, 0.7, 0.8]], rtol=1e-6)


def test_token_order_without_batch_priority():
    routing = route(logits_of(GATES), selected=1, capacity=2, batch_priority=False)
    # 0 and 1 are first at expert 0, whatever their gates; 2 would be served before 0 by gate.
    assert places(routing) == {
        (0, 0): (0, 0, True),
        (1, 0): (0, 1, True),
        (2, 0): (0, 2, False),
        (3, 0): (1, 0, True),
    }


def test_a_second_choice_never_displaces_a_first():
    # Token 0 prefers expert 1 and takes expert 0 second, with .45; token 1 prefers expert 0 with
    # .4 only, is last by gate, and has the one slot of expert 0 all the same.
    gates = [[0.45, 0.5, 0.05], [0.4, 0.3, 0.3]]
    routing = route(logits_of(gates), selected=2, capacity=1)
    assert places(routing) == {
        (0, 0): (1, 0, True),
        (1, 0): (0, 0, True),
        (0, 1): (0, 1, False),
        (1, 1): (1, 1, False),  # 0.3 and 0.3: the lower of the equal experts 1 and 2
    }


def test_ties_go_to_the_lower_expert_and_batch_priority_is_stable():
    # All gates 1/4: token t's k-th choice is expert k, and tokens are served in order.
    routing = route(jnp.zeros((1, 5, 4)), selected=3, capacity=2)
    for (t, k), (e, place, gate, kept) in as_pairs(routing, 0).items():
        assert (e, place, kept) == (k, t, t < 2)
        assert gate == 0.25


def test_stable_among_equals_only():
    # By top gate: tokens 1 and 3 (.8) before 0 and 2 (.6); equal ones in order.
    gates = [[0.6, 0.4], [0.8, 0.2], [0.6, 0.4], [0.8, 0.2]]
    routing = route(logits_of(gates), selected=1, capacity=4)
    assert places(routing) == {
        (1, 0): (0, 0, True),
        (3, 0): (0, 1, True),
        (0, 0): (0, 2, True),
        (2, 0): (0, 3, True),
    }


def test_noise_is_scaled_by_one_over_experts_and_changes_choice_and_gate():
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


def test_capacity_is_the_ceiling_rounded_up_to_a_multiple():
    # 34 tokens * 2 choices * 1.05 / 4 experts = 17.85: 18, and 20 as a multiple of 4.
    assert expert_capacity(34, 4, 2, 1.05) == 18
    assert expert_capacity(34, 4, 2, 1.05, multiple_of=4) == 20
    # 8 images of 50 tokens, K=2, E=32, 1.05: 26.25, which rounds to 26 and the ceiling is 27.
    assert expert_capacity(400, 32, 2, 1.05, rounding="round") == 26
    assert expert_capacity(400, 32, 2, 1.05) == 27
    assert expert_capacity(400, 32, 2, 1.05, multiple_of=4) == 28
