"""Places and gates of top-k routing against plain loops where ties abound; slots and pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import pair_of_slot, route_top_k
from hypothesis import given, settings
from hypothesis import strategies as st

from . import reference
from .pairs import as_pairs

route = jax.jit(
    route_top_k,
    static_argnames=("selected", "capacity", "batch_priority"),
)


slots = jax.jit(pair_of_slot)


@settings(max_examples=12, deadline=None, derandomize=True, database=None)
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
    gates = np.asarray(routing.gates)
    for g in range(2):
        valid = reference.softmax(logits[g].astype(np.float64))[mask[g]]
        np.testing.assert_allclose(gates[g][mask[g]], valid, rtol=1e-5)
        expected = reference.route(gates[g], mask[g], selected, capacity, priority)
        got = as_pairs(routing, g)
        assert len(got) == len(expected)
        for t, k, e, place, gate, kept in expected:
            assert got[t, k] == (e, place, pytest.approx(gate, rel=1e-6), kept)


def test_slots_invert_to_pairs():
    gates = [[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]
    logits = jnp.log(jnp.asarray(gates))[None]
    every = jnp.ones((1, 4), bool)
    routing = route(logits, every, selected=2, capacity=2)
    # Pairs are t*2+choice: expert 0 holds tokens 1 and 2, expert 1 tokens 3 and 1.
    assert slots(routing.assignment).tolist() == [[2, 4, 6, 3]]
    last = jnp.asarray([[False, False, False, True]])
    masked = route(logits, last, selected=2, capacity=2)
    assert slots(masked.assignment).tolist() == [[7, 8, 6, 8]]  # 8 is an empty slot
    nobody = route(logits, jnp.zeros((1, 4), bool), selected=2, capacity=2)
    assert not nobody.assignment.routed.any()
    assert slots(nobody.assignment).tolist() == [[8, 8, 8, 8]]
