"""The statistics made of sums, by hand and against loops."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.routing import flat_statistics, route_top_k, routing_statistics, routing_sums

from . import reference

NAMES = ("image", "text")


@jax.jit
def summed(logits, mask, modality):
    routing = route_top_k(logits, mask, selected=1, capacity=2)
    return routing_sums(routing, modality, 2)


statistics = jax.jit(routing_statistics)


def by_hand():
    # Five tokens, four experts, K=1, C=2. Image: two to expert 0, one to expert 1. Text: two to
    # expert 0, less sure, so that both find it full.
    sure, unsure = [0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2]
    gates = jnp.asarray([[sure, sure, [0.1, 0.7, 0.1, 0.1], unsure, unsure]])
    return summed(jnp.log(gates), jnp.ones((1, 5), bool), jnp.asarray([[0, 0, 0, 1, 1]]))


def test_statistics_by_hand():
    sums = by_hand()
    got = statistics(sums)
    np.testing.assert_array_equal(got.tokens, [3, 2])
    np.testing.assert_allclose(got.success, [1.0, 0.0])
    np.testing.assert_allclose(got.drop_by_modality, [0.0, 1.0])
    np.testing.assert_allclose(got.load, [0.8, 0.2, 0.0, 0.0])
    np.testing.assert_allclose(got.kept_load, [2 / 3, 1 / 3, 0.0, 0.0])
    assert got.max_load == pytest.approx(3.2)  # 0.8 times E
    assert got.max_vio == pytest.approx(2.2)
    assert got.min_load == 0.0
    assert got.dead == 2.0  # under 0.1/4
    assert got.drop == pytest.approx(0.4)
    assert got.left_behind == pytest.approx(0.4)  # the same, K=1
    assert got.usage == pytest.approx(3 / 8)  # of four experts' two slots
    np.testing.assert_allclose(got.confidence, [0.7, 0.0], rtol=1e-6)
    assert got.confidence_of_all == pytest.approx(0.7)
    np.testing.assert_allclose(got.gap, [0.6, 0.2], rtol=1e-5)
    np.testing.assert_allclose(got.share, [[0.5, 1, 0, 0], [0.5, 0, 0, 0]])
    np.testing.assert_allclose(got.kept_share, [[1, 1, 0, 0], [0, 0, 0, 0]])
    # Of 3 image tokens 2/3 go to expert 0, of 2 text tokens all: (2/3)/(5/3) = 0.4.
    np.testing.assert_allclose(got.even_share, [[0.4, 1, 0, 0], [0.6, 0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(got.top_gate, [0.7, 0.4], rtol=1e-6)
    # Importance: (.7+.7+.1+.4+.4, .1+.1+.7+.2+.2, .7, .7)/5 = (.46, .26, .14, .14). CV^2: mean
    # .25, deviations .21, .01, -.11, -.11, variance .0171, over .0625.
    np.testing.assert_allclose(got.importance, [0.46, 0.26, 0.14, 0.14], rtol=1e-5)
    assert got.importance_cv2 == pytest.approx(0.2736, rel=1e-4)
    # Load CV^2: deviations .55, -.05, -.25, -.25: .1075 / .0625. Balance 4(.8*.46 + .2*.26).
    assert got.load_cv2 == pytest.approx(1.72, rel=1e-4)
    assert got.balance == pytest.approx(1.68, rel=1e-4)
    assert got.z == pytest.approx(0.0, abs=1e-10)  # logits are log gates
    # H(.7,.1,.1,.1) = .24967 + 3*.23026 = .94045; H(.4,.2,.2,.2) = .36652 + 3*.32189 = 1.33218.
    np.testing.assert_allclose(got.local_entropy, [0.94045, 1.33218], rtol=1e-4)
    most = np.asarray([0.94045, 1.33218]) / math.log(4)
    np.testing.assert_allclose(got.local_entropy_of_most, most, rtol=1e-4)
    # Image mean: (.5, .3, .1, .1): .34657 + .36119 + 2*.23026 = 1.16828. Text: as its tokens.
    np.testing.assert_allclose(got.global_entropy, [1.16828, 1.33218], rtol=1e-4)
    np.testing.assert_allclose(got.effective_experts, np.exp([1.16828, 1.33218]), rtol=1e-4)
    np.testing.assert_allclose(got.token_information, [0.22783, 0.0], atol=1e-5)
    # Pairs (2, 1; 2, 0)/5: .4 log(.4/.48) + .2 log(.2/.12) + .4 log(.4/.32) = .118494. After
    # drops only images are left, which tell nothing.
    information = 0.4 * math.log(0.4 / 0.48) + 0.2 * math.log(0.2 / 0.12)
    information += 0.4 * math.log(0.4 / 0.32)
    assert got.modality_information == pytest.approx(information, rel=1e-4)
    both = reference.entropy([0.8, 0.2]) * reference.entropy([0.6, 0.4])
    assert got.modality_nmi == pytest.approx(information / math.sqrt(both), rel=1e-4)
    assert got.kept_modality_information == got.kept_modality_nmi == 0.0
    assert got.modality_information_bias == pytest.approx(3 * 1 / (2 * 5))
    assert got.kept_modality_information_bias == pytest.approx(3 * 1 / (2 * 3))


def test_flat_statistics():
    sums = by_hand()
    flat = flat_statistics(sums, NAMES)
    assert flat["success/text"] == 0.0
    assert flat["max_load"] == pytest.approx(3.2)
    assert all(value.shape == () for value in flat.values())
    keys = ("success", "local_entropy", "global_entropy", "top_gate", "confidence")
    single = {"max_load", "dead", "drop", "max_vio", "left_behind", "usage"}
    single |= {"modality_information"}
    assert set(flat) == {f"{key}/{name}" for key in keys for name in NAMES} | single
    with pytest.raises(ValueError, match="1 names for 2"):
        flat_statistics(sums, ("image",))


def test_statistics_of_nothing_are_finite():
    sums = summed(jnp.zeros((1, 5, 4)), jnp.zeros((1, 5), bool), jnp.zeros((1, 5), jnp.int32))
    got = statistics(sums)
    for leaf in jax.tree.leaves(got):
        assert np.isfinite(leaf).all()
    assert got.drop == got.left_behind == got.max_vio == got.usage == 0.0
