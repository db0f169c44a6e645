"""A step in parts is the step of the whole batch, whatever its loss is."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments.islands import part_step
from byways.experiments.islands.part_step import PartStep
from byways.experiments.train_state import initial_params, initial_state

from . import small

SIGMOID = dataclasses.replace(
    small.LIMOE, loss=dataclasses.replace(small.LIMOE.loss, contrastive="sigmoid", chunks=2)
)
CASES = {
    "limoe": small.LIMOE,
    "palm": pytest.param(small.SPARSE, marks=pytest.mark.slow),
    "sigmoid": pytest.param(SIGMOID, marks=pytest.mark.slow),
}


@functools.cache
def begun(config):
    """Parameters, and a batch."""
    params = jax.jit(lambda: initial_params(config))()
    return params, jax.tree.map(jnp.asarray, small.batch(config))


@functools.cache
def gradient(config):
    """Jitted: parameters and batch -> loss, its parts and sums, and the gradient."""
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    objective = PartStep(config, 1).objective
    return jax.jit(jax.value_and_grad(lambda p, b: objective(p, b, key), has_aux=True))


def packed_state(step):
    return step.state.pack(initial_state(step.config, step.task, step.optimizer))


def in_parts(step, batch):
    """The same by parts: loss, its parts and sums, and each part's gradient."""
    rows = [
        {k: v[p * step.rows :][: step.rows] for k, v in batch.items()} for p in range(step.parts)
    ]
    forward, backward = jax.jit(step.forward), jax.jit(step.backward)
    state = jax.jit(lambda: packed_state(step))()
    numbers = [jnp.int32(part) for part in range(step.parts)]
    read = [forward(state, r, p) for r, p in zip(rows, numbers, strict=True)]
    found = [exchanged for exchanged, _ in read]
    made = [
        backward(state, r, kept, found, p)
        for r, (_, kept), p in zip(rows, read, numbers, strict=True)
    ]
    told = [step.exchange.loss(told) for _, told in made]
    jax.tree.map(np.testing.assert_array_equal, told[0], told[-1])
    loss, (named, sums) = told[0]
    grads = [step._gradients.unpack(packed) for packed, _ in made]
    return loss, named, sums, grads


def distance(some, others) -> float:
    """|a - b| / |b| of two gradients."""
    pairs = list(zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True))
    apart = sum(float(jnp.sum((a - b) ** 2)) for a, b in pairs)
    return (apart / sum(float(jnp.sum(b**2)) for _, b in pairs)) ** 0.5


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_the_parts_have_loss_statistics_and_gradient_of_the_whole(config):
    params, batch = begun(config)
    (loss, (named, sums)), wanted = gradient(config)(params, batch)
    other, other_named, other_sums, grads = in_parts(PartStep(config, 2), batch)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    for name, value in named.items():
        np.testing.assert_allclose(other_named[name], value, rtol=1e-5, atol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), other_sums, sums
    )
    total = [a + b for a, b in zip(*grads, strict=True)]
    assert distance(total, wanted) < 1e-5


def test_the_mean_of_what_halves_learn_alone_is_another_gradient():
    config = small.LIMOE
    params, batch = begun(config)
    (loss, _), wanted = gradient(config)(params, batch)
    alone = gradient(dataclasses.replace(config, batch_size=4))
    halves = [{k: v[part * 4 :][:4] for k, v in batch.items()} for part in range(2)]
    apart = [alone(params, half) for half in halves]
    assert abs(np.mean([found[0] for (found, _) in apart]) - loss) > 0.1
    mean = jax.tree.map(lambda a, b: (a + b) / 2, apart[0][1], apart[1][1])
    assert distance(mean, wanted) > 0.05


def test_residuals_leave_out_what_is_there_anyway(monkeypatch):
    step = PartStep(small.DENSE, 1)
    params, batch = begun(small.DENSE)
    state = jax.eval_shape(lambda: packed_state(step))
    monkeypatch.setattr(part_step, "SMALL", 0)
    _, (large, packed) = jax.eval_shape(step.forward, state, batch, jnp.int32(0))
    there = {leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2}
    assert not packed
    assert not there & {leaf.shape for leaf in large}
