"""Soft MoE's statistics against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import SoftRouting, slot_cosine, soft_statistics, soft_sums


@jax.jit
def summed(dispatch, combine, mask):
    sums = soft_sums(SoftRouting(dispatch, combine, mask))
    return sums, soft_statistics(sums)


def cosines(rows):
    """Of all pairs of different rows."""
    rows = np.asarray(rows, np.float64)
    return [
        a @ b / np.sqrt((a @ a) * (b @ b))
        for i, a in enumerate(rows)
        for j, b in enumerate(rows)
        if i != j
    ]


def test_against_loops():
    rng = np.random.default_rng(0)
    mask = np.asarray([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    weights = rng.uniform(0.1, 1, (2, 3, 4, 2, 2)) * mask[None, ..., None, None]
    dispatch = weights[0] / np.maximum(weights[0].sum(1, keepdims=True), 1e-9)
    combine = weights[1] / np.maximum(weights[1].sum((2, 3), keepdims=True), 1e-9)
    arrays = [jnp.asarray(x, jnp.float32) for x in (dispatch, combine)]
    sums, got = summed(*arrays, jnp.asarray(mask))
    tokens = combine[mask].reshape(-1, 4)
    slots = [dispatch[g][mask[g]].reshape(-1, 4).T for g in (0, 1)]  # (slots, tokens)
    assert (sums.tokens, sums.slots) == (6, 8)
    assert got.combine_min == pytest.approx(tokens.min(1).mean(), rel=1e-5)
    assert got.combine_max == pytest.approx(tokens.max(1).mean(), rel=1e-5)
    assert got.dispatch_min == pytest.approx(np.mean([s.min(1) for s in slots]), rel=1e-5)
    assert got.dispatch_max == pytest.approx(np.mean([s.max(1) for s in slots]), rel=1e-5)
    alike = np.mean([np.mean(cosines(s)) for s in slots])
    assert got.dispatch_cosine == pytest.approx(alike, rel=1e-5)
    alike = np.mean([np.mean(cosines(combine[g][mask[g]].reshape(-1, 4))) for g in (0, 1)])
    assert got.combine_cosine == pytest.approx(alike, rel=1e-5)
    # Merged with itself, nothing changes; nothing at all is zeros.
    again = jax.jit(soft_statistics)(sums.merge(sums))
    for one, two in zip(jax.tree.leaves(got), jax.tree.leaves(again), strict=True):
        assert one == pytest.approx(float(two), rel=1e-6)
    empty, nothing = summed(*(0 * x for x in arrays), jnp.zeros((3, 4), bool))
    assert not any(np.asarray(leaf) for leaf in jax.tree.leaves((empty, nothing)))


def test_slot_vectors():
    phi = np.random.default_rng(1).standard_normal((5, 3, 2))
    expected = np.mean(cosines(phi.reshape(5, 6).T))
    measure = jax.jit(slot_cosine)
    assert measure(jnp.asarray(phi, jnp.float32)) == pytest.approx(expected, rel=1e-4)
    assert measure(jnp.ones((5, 3, 2))) == pytest.approx(1.0, rel=1e-6)
