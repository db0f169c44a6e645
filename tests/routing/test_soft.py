"""Soft routing against plain loops, and the parts of the contract that apply to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import ExpertMlp, dispatch_soft, mlp, route_soft
from hypothesis import given, settings
from hypothesis import strategies as st

from . import reference
from .contract import agree, same_bits

G, T, E, C, D, H = 2, 8, 3, 2, 4, 6


def drawn(seed, share=0.7):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    weights = ExpertMlp(normal(E, D, H), normal(E, H), normal(E, H, D), normal(E, D))
    mask = rng.uniform(size=(G, T)) < share
    scale = np.float32(rng.uniform(0.5, 8.0))
    return normal(G, T, D), mask, normal(D, E, C), scale, jax.tree.map(jnp.asarray, weights)


def layer(x, mask, mu, scale, weights):
    routing = route_soft(x, mu, scale, mask)
    return dispatch_soft(routing, x, weights), routing


def loss(x, mu, scale, weights, mask):
    out, routing = layer(x, mask, mu, scale, weights)
    return jnp.sum(jnp.sin(out)), (out, routing)


@functools.cache
def step(remat=False):
    """(x, mask, mu, scale, weights) -> gradients by x, mu, scale and weights; output, routing."""
    grad = jax.grad(jax.checkpoint(loss) if remat else loss, argnums=(0, 1, 2, 3), has_aux=True)
    return jax.jit(lambda x, mask, mu, scale, weights: grad(x, mu, scale, weights, mask))


@settings(max_examples=6, deadline=None, derandomize=True, database=None)
@given(share=st.sampled_from([0.0, 0.3, 1.0]), seed=st.integers(0, 2**16))
def test_against_plain_loops(share, seed):
    x, mask, mu, scale, weights = drawn(seed, share)
    grads, (out, routing) = step()(x, mask, mu, scale, weights)
    for g in range(G):
        expected = reference.soft(
            weights.weights, *(np.asarray(a, np.float64) for a in (x[g], mu, scale)), mask[g]
        )
        agree((out[g], routing.dispatch[g], routing.combine[g]), expected)
    # Conserved: a slot is a mean of the valid tokens, a valid token a mean of all slots.
    alive = np.broadcast_to(mask.any(1)[:, None, None], (G, E, C)).astype(float)
    agree(routing.dispatch.sum(1), alive, 1e-5)
    agree(routing.combine.sum((2, 3)), mask.astype(float), 1e-5)
    for leaf in jax.tree.leaves(jax.device_get(grads)):
        assert np.isfinite(leaf).all()
    if not mask.any():
        assert not np.asarray(out).any()


def test_gradients_against_finite_differences():
    x, mask, mu, scale, weights = drawn(1)
    grads, _ = step()(x, mask, mu, scale, weights)
    grads = (*grads[:3], grads[3].up)

    def slow(x, mu, scale, up):
        parts = (up, weights.up_bias, weights.down, weights.down_bias)
        return sum(
            np.sin(reference.soft(parts, x[g], mu, scale, mask[g])[0]).sum() for g in range(G)
        )

    at = [np.asarray(a, np.float64) for a in (x, mu, scale, weights.up)]
    rng = np.random.default_rng(1)
    for i, gradient in enumerate(grads):
        direction = rng.standard_normal(at[i].shape)
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[i] = at[i] + sign * 1e-6 * direction
            ends.append(slow(*moved))
        slope = (ends[0] - ends[1]) / 2e-6
        assert np.vdot(gradient, direction) == pytest.approx(slope, rel=2e-3, abs=2e-3), i


def test_what_masked_tokens_hold_changes_no_bit():
    x, mask, mu, scale, weights = drawn(2)
    first = step()(x, mask, mu, scale, weights)
    rng = np.random.default_rng(2)
    for rubbish in (1e20, np.nan, rng.standard_normal(x.shape)):
        other = np.where(mask[..., None], x, rubbish).astype(np.float32)
        same_bits(step()(other, mask, mu, scale, weights), first)
    assert not np.asarray(first[0][0])[~mask].any()
    assert not np.asarray(first[1][0])[~mask].any()


def test_appended_masked_tokens_and_permutations():
    x, _, mu, scale, weights = drawn(3)
    mask = np.arange(T) < np.full((G, 1), 6)
    _, (out, _) = step()(x, mask, mu, scale, weights)
    short, _ = jax.jit(layer)(x[:, :6], mask[:, :6], mu, scale, weights)
    agree(short, np.asarray(out)[:, :6], 1e-5)
    order = np.random.default_rng(3).permutation(T)
    _, (turned, _) = step()(x[:, order], mask[:, order], mu, scale, weights)
    agree(turned, np.asarray(out)[:, order], 1e-5)


def test_recomputed_mapped_and_bfloat16():
    arguments = drawn(4)
    x, mask, mu, scale, weights = arguments
    grads, (out, routing) = step()(*arguments)
    agree(step(remat=True)(*arguments), (grads, (out, routing)), 1e-5)
    twice = jax.jit(jax.vmap(layer, in_axes=(0, None, None, None, None)))
    agree(twice(np.stack([x, x]), mask, mu, scale, weights)[0], np.stack([out, out]), 1e-5)
    grads, (half, weighed) = step()(x.astype(jnp.bfloat16), mask, mu, scale, weights)
    assert [g.dtype for g in jax.tree.leaves(grads)] == [jnp.bfloat16] + [jnp.float32] * 6
    assert half.dtype == weighed.dispatch.dtype == weighed.combine.dtype == jnp.float32
    agree(half, out, 0.03 * np.abs(out).max())


def test_a_token_alone_in_its_slot_is_the_dense_mlp():
    """One expert, one slot, one valid token: both softmaxes are 1."""
    x, _, mu, scale, weights = drawn(5)
    one = jax.tree.map(lambda leaf: leaf[:1], weights)
    mask = np.arange(T) == np.full((G, 1), 3)
    out, routing = jax.jit(layer)(x, mask, mu[:, :1, :1], scale, one)
    assert set(np.asarray(routing.dispatch).ravel()) == {0.0, 1.0}
    dense = mlp(*(leaf[0] for leaf in one.weights), jnp.asarray(x))
    agree(out, np.where(mask[..., None], dense, 0), 1e-5)
