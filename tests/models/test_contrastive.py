"""The contrastive losses against NumPy, by hand, and in chunks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import sigmoid_loss, softmax_loss
from byways.models.contrastive import capped_scale


def unit(rng, batch, features=5):
    x = rng.normal(size=(batch, features))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    return jnp.asarray(unit(rng, 6)), jnp.asarray(unit(rng, 6))


def test_softmax_is_the_mean_of_both_cross_entropies(pairs):
    image, text = pairs
    logits = 7.0 * np.asarray(image, np.float64) @ np.asarray(text).T

    def cross_entropy(z):
        return np.mean(np.log(np.exp(z).sum(axis=1)) - np.diag(z))

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    np.testing.assert_allclose(softmax_loss(image, text, jnp.float32(7.0)), expected, rtol=1e-5)


def test_softmax_of_two_orthogonal_pairs_by_hand():
    # Logits [[2, 0], [0, 2]]: each row and column costs log(1 + e^-2) = 0.126928.
    eye = jnp.eye(2)
    np.testing.assert_allclose(softmax_loss(eye, eye, jnp.float32(2.0)), 0.126928, rtol=1e-5)


def test_sigmoid_matches_the_papers_formula(pairs):
    image, text = pairs
    logits = 10.0 * np.asarray(image, np.float64) @ np.asarray(text).T - 3.0
    sign = 2 * np.eye(6) - 1
    expected = np.mean(np.sum(np.log1p(np.exp(-sign * logits)), axis=1))
    got = sigmoid_loss(image, text, jnp.float32(10.0), jnp.float32(-3.0))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("chunks", [1, 4])
@pytest.mark.parametrize(("scale", "bias"), [(33.3, -16.6), (40.7, -20.0), (60.0, -30.0)])
def test_sigmoid_of_a_solved_batch_keeps_its_digits(chunks, scale, bias):
    """All pairs alike, all others at right angles: every logit is scale + bias, or bias."""
    number = 64
    rows = jnp.eye(number)

    def loss(image, scale, bias):
        return sigmoid_loss(image, rows, scale, bias, chunks=chunks)

    numbers = jnp.float32(scale), jnp.float32(bias)
    found, gradients = jax.value_and_grad(loss, (0, 1, 2))(rows, *numbers)
    pair, other = (float(x) for x in (sum(numbers), numbers[1]))
    expected = np.log1p(np.exp(-pair)) + (number - 1) * np.log1p(np.exp(other))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # d softplus(x) = σ(x) dx
    pulled, pushed = -1 / (1 + np.exp(pair)), 1 / (1 + np.exp(-other))
    eye = np.eye(number)
    image = scale / number * (pulled * eye + pushed * (1 - eye))
    np.testing.assert_allclose(gradients[0], image, rtol=1e-5)
    np.testing.assert_allclose(gradients[1], pulled, rtol=1e-5)
    np.testing.assert_allclose(gradients[2], pulled + (number - 1) * pushed, rtol=1e-5)


def test_sigmoid_gradients_are_those_of_the_formula(pairs):
    image, text = pairs
    mask = jnp.arange(6) != 2
    numbers = jnp.float32(10.0), jnp.float32(-3.0)

    def formula(image, text, scale, bias):
        sign = 2 * jnp.eye(5) - 1
        logits = scale * image[mask] @ text[mask].T + bias
        return jnp.mean(jnp.sum(jax.nn.softplus(-sign * logits), axis=1))

    def loss(*args):
        return sigmoid_loss(*args, mask, chunks=3)

    found = jax.grad(loss, (0, 1, 2, 3))(image, text, *numbers)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(x, np.float64)) for x in (image, text, *numbers)]
        expected = jax.grad(formula, (0, 1, 2, 3))(*wide)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_capped_scale_comes_back():
    """Below the cap nothing is new, to the bit; above it the gradient is the cap's."""
    both = jax.jit(jax.value_and_grad(lambda x: capped_scale(x, 100.0)))
    for log_scale in (-3.0, 0.0, 2.302585, 4.6):
        value, gradient = both(jnp.float32(log_scale))
        plain = jax.jit(jnp.exp)(jnp.float32(log_scale))
        assert value == gradient == plain
    for log_scale in (4.7, 9.0, 200.0):
        value, gradient = both(jnp.float32(log_scale))
        assert value == gradient == jnp.exp(jnp.float32(np.log(100.0)))
    assert capped_scale(jnp.float32(5.0), None) == jnp.exp(jnp.float32(5.0))
    log_scale = jnp.float32(5.0)
    for _ in range(50):  # a loss that wants 20
        log_scale -= 1e-4 * jax.grad(lambda x: (capped_scale(x, 100.0) - 20.0) ** 2)(log_scale)
    assert float(jnp.exp(log_scale)) == pytest.approx(20.0, rel=0.05)


@pytest.mark.parametrize("chunks", [2, 3, 6])
def test_sigmoid_chunks_change_neither_loss_nor_gradient(pairs, chunks):
    image, text = pairs

    def loss(image, text, chunks):
        return sigmoid_loss(image, text, jnp.float32(10.0), jnp.float32(-3.0), chunks=chunks)

    whole, gradient = jax.value_and_grad(loss, (0, 1))(image, text, 1)
    part, chunked = jax.value_and_grad(loss, (0, 1))(image, text, chunks)
    np.testing.assert_allclose(part, whole, rtol=1e-6)
    for a, b in zip(chunked, gradient, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_masked_pairs_are_as_if_absent(pairs, kind):
    image, text = pairs
    mask = jnp.arange(6) < 4

    def loss(image, text, mask):
        if kind == "softmax":
            return softmax_loss(image, text, jnp.float32(7.0), mask)
        return sigmoid_loss(image, text, jnp.float32(7.0), jnp.float32(-2.0), mask)

    gradients = jax.grad(loss, (0, 1))
    np.testing.assert_allclose(loss(image, text, mask), loss(image[:4], text[:4], None), rtol=1e-6)
    for whole in gradients(image, text, mask):
        np.testing.assert_array_equal(whole[4:], 0.0)
    all_masked = gradients(image, text, jnp.zeros(6, bool))
    assert all(bool(jnp.isfinite(g).all()) for g in all_masked)


def test_sigmoid_chunks_must_divide(pairs):
    with pytest.raises(ValueError, match="chunks=4 does not divide the batch of 6"):
        sigmoid_loss(*pairs, jnp.float32(1.0), jnp.float32(0.0), chunks=4)
