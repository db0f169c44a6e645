"""Sums merge exactly, and the statistics made of them are what they say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import (
    auxiliary_losses,
    flat_statistics,
    route_top_k,
    routing_statistics,
    routing_sums,
)

NAMES = ("image", "text")


def sums_of(logits, mask, modality, noise, capacity=4):
    routing = route_top_k(logits, mask, selected=2, capacity=capacity, noise=noise)
    return routing_sums(routing, modality, 2)


compiled = jax.jit(sums_of, static_argnames="capacity")
route = jax.jit(route_top_k, static_argnames=("selected", "capacity"))
sum_up = jax.jit(routing_sums, static_argnums=2)
statistics = jax.jit(routing_statistics)


def example(groups=4, tokens=10, experts=4):
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.standard_normal((groups, tokens, experts)), jnp.float32),
        jnp.asarray(rng.uniform(size=(groups, tokens)) < 0.8),
        jnp.asarray(rng.integers(0, 2, (groups, tokens))),
        jnp.asarray(rng.standard_normal((groups, tokens, experts)), jnp.float32),
    )


def test_chunks_merge_to_the_whole_with_its_losses_and_gradients():
    arrays = example()

    def loss(sums):
        return sum(
            auxiliary_losses(
                sums,
                NAMES,
                importance=True,
                load=True,
                z=True,
                local=("text",),
                thresholds={"image": 4.0, "text": 4.0},
            ).values()
        )

    def whole(logits):
        sums = sums_of(logits, *arrays[1:])
        return loss(sums), sums

    def chunked(logits):
        first = sums_of(logits[:1], *(a[:1] for a in arrays[1:]))
        rest = sums_of(logits[1:], *(a[1:] for a in arrays[1:]))
        sums = first.merge(rest)
        return loss(sums), sums

    (one, sums), slope = jax.jit(jax.value_and_grad(whole, has_aux=True))(arrays[0])
    (two, merged), other = jax.jit(jax.value_and_grad(chunked, has_aux=True))(arrays[0])
    assert one == pytest.approx(float(two), rel=1e-5)
    np.testing.assert_allclose(slope, other, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(sums), jax.tree.leaves(merged), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_training_and_evaluation_do_not_merge():
    sums = compiled(*example())
    with pytest.raises(ValueError, match="stochastic"):
        sums.merge(dataclasses.replace(sums, stochastic=False))


def test_counts_against_loops():
    arrays = example()
    routing = jax.device_get(route(arrays[0], arrays[1], selected=2, capacity=4))
    sums = sum_up(jax.tree.map(jnp.asarray, routing), arrays[2], 2)
    a, mask, modality = routing.assignment, np.asarray(arrays[1]), np.asarray(arrays[2])
    assigned, kept, processed = np.zeros((2, 4)), np.zeros((2, 4)), np.zeros(2)
    for g in range(4):
        done = set()
        for p in range(a.token.shape[1]):
            t = a.token[g, p]
            if a.routed[g, p]:
                assigned[modality[g, t], a.expert[g, p]] += 1
            if a.kept[g, p]:
                kept[modality[g, t], a.expert[g, p]] += 1
                done.add(t)
        for t in done:
            processed[modality[g, t]] += 1
    np.testing.assert_array_equal(sums.assigned, assigned)
    np.testing.assert_array_equal(sums.kept, kept)
    np.testing.assert_array_equal(sums.processed, processed)
    np.testing.assert_array_equal(sums.tokens, [(mask & (modality == m)).sum() for m in range(2)])


def test_statistics_by_hand():
    # Five tokens, four experts, K=1, C=2. Image: two to expert 0, one to expert 1. Text: two to
    # expert 0, less sure, so that both find it full.
    sure, unsure = [0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2]
    gates = [sure, sure, [0.1, 0.7, 0.1, 0.1], unsure, unsure]
    routing = route(jnp.log(jnp.asarray([gates])), selected=1, capacity=2)
    sums = sum_up(routing, jnp.asarray([[0, 0, 0, 1, 1]]), 2)
    got = statistics(sums)
    np.testing.assert_allclose(got.success, [1.0, 0.0])
    np.testing.assert_allclose(got.load, [0.8, 0.2, 0.0, 0.0])
    np.testing.assert_allclose(got.kept_load, [2 / 3, 1 / 3, 0.0, 0.0])
    assert got.max_load == pytest.approx(3.2)  # 0.8 times E
    assert got.dead == 2.0  # under 0.1/4
    assert got.drop == pytest.approx(0.4)
    np.testing.assert_allclose(got.share, [[0.5, 1, 0, 0], [0.5, 0, 0, 0]])
    np.testing.assert_allclose(got.top_gate, [0.7, 0.4], rtol=1e-6)
    # H(.7,.1,.1,.1) = .24967 + 3*.23026 = .94045; H(.4,.2,.2,.2) = .36652 + 3*.32189 = 1.33218.
    np.testing.assert_allclose(got.local_entropy, [0.94045, 1.33218], rtol=1e-4)
    # Image mean: (.5, .3, .1, .1): .34657 + .36119 + 2*.23026 = 1.16828. Text: as its tokens.
    np.testing.assert_allclose(got.global_entropy, [1.16828, 1.33218], rtol=1e-4)
    np.testing.assert_allclose(got.effective_experts, np.exp([1.16828, 1.33218]), rtol=1e-4)
    flat = flat_statistics(sums, NAMES)
    assert flat["success/text"] == 0.0
    assert flat["max_load"] == got.max_load
    assert set(flat) == {
        f"{key}/{name}"
        for key in ("success", "local_entropy", "global_entropy", "top_gate")
        for name in NAMES
    } | {"max_load", "dead", "drop"}


def test_statistics_of_nothing_are_finite():
    logits, _, modality, noise = example(groups=1)
    sums = compiled(logits, jnp.zeros((1, 10), bool), modality, noise)
    for leaf in jax.tree.leaves(statistics(sums)):
        assert np.isfinite(leaf).all()
    with pytest.raises(ValueError, match="1 names for 2"):
        flat_statistics(sums, ("image",))
