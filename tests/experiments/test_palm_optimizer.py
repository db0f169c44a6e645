"""PaLM's optimiser against its formulas, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from byways.experiments.palm_optimizer import palm_learning_rate, palm_optimizer


def test_rate_is_constant_and_then_an_inverse_square_root():
    rate = palm_learning_rate()
    for k in (1, 500, 10_000):
        assert float(rate(k - 1)) == pytest.approx(1e-2)
    for k in (10_001, 40_000, 255_000):
        assert float(rate(k - 1)) == pytest.approx(1 / np.sqrt(k))


def test_first_steps_are_the_formulas():
    """Six steps, two of them in the constant part, some of them clipped."""
    generator = np.random.default_rng(0)
    params = {"w": generator.normal(size=(3, 4)) * 2, "zeros": np.zeros(5)}
    optimizer = palm_optimizer(lr=0.1, constant_steps=2)
    ours = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    state = optimizer.init(ours)
    update = jax.jit(optimizer.update)
    m = {name: np.zeros_like(p) for name, p in params.items()}
    v = {name: np.zeros_like(p) for name, p in params.items()}
    for k in range(1, 7):
        size = 0.1 if k % 2 else 3.0
        grads = {name: generator.normal(size=p.shape) * size for name, p in params.items()}
        updates, state = update(
            jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), grads), state, ours
        )
        ours = optax.apply_updates(ours, updates)
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        lr = 0.1 if k <= 2 else 0.1 * np.sqrt(2 / k)
        beta = 1 - k**-0.8
        for name, p in params.items():
            g = grads[name] / max(norm, 1.0)
            v[name] = beta * v[name] + (1 - beta) * g**2
            scale = max(np.sqrt((p**2).mean()), 1e-3)
            m[name] = 0.9 * m[name] + 0.1 * lr * scale * g / np.sqrt(v[name])
            params[name] = p - m[name] - lr**2 * p
            np.testing.assert_allclose(ours[name], params[name], rtol=1e-4, atol=1e-7)
