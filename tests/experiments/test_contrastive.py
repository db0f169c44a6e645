"""The objective: chunks change nothing, groups are whole examples, every loss is added."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments.contrastive import count_groups, objective
from byways.experiments.train_state import initial_params
from byways.models import ModelConfig, MoeConfig

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)
TINY = dataclasses.replace(tiny.TINY, model=dataclasses.replace(tiny.TINY.model, vocab_size=50))


def batch():
    rng = np.random.default_rng(0)
    text = rng.integers(1, 50, (16, 12)).astype(np.int32)
    return {
        "image": jnp.asarray(rng.integers(0, 256, (16, 32, 32, 3)), jnp.uint8),
        "text": jnp.asarray(text),
        "text_mask": jnp.asarray(np.arange(12) < rng.integers(1, 13, (16, 1))),
    }


def with_loss(**changes):
    return dataclasses.replace(TINY, loss=dataclasses.replace(TINY.loss, **changes))


@functools.cache
def started(config):
    """Parameters."""
    return jax.jit(lambda: initial_params(config))()


@functools.cache
def gradient(config):
    """Jitted: parameters -> the loss, its parts and sums, and its gradient."""

    def loss(params):
        return objective(config)(params, batch(), jax.random.key(3))

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_chunks_give_the_same_loss_statistics_and_gradient(kind):
    # Four groups of four examples, with noise and a capacity that drops tokens.
    params = started(with_loss(contrastive=kind))
    (whole, (parts, sums)), grads = gradient(with_loss(contrastive=kind))(params)
    chunked = with_loss(contrastive=kind, chunks=2)
    (other, (other_parts, other_sums)), other_grads = gradient(chunked)(params)
    assert count_groups(TINY.model, 16) == 4
    np.testing.assert_allclose(other, whole, rtol=1e-6)
    for name, value in parts.items():
        np.testing.assert_allclose(other_parts[name], value, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), other_sums, sums)
    for a, b in zip(jax.tree.leaves(other_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    dropped = sums["encoderblock_0"].assigned.sum() - sums["encoderblock_0"].kept.sum()
    assert dropped > 0


def test_every_switched_on_loss_is_in_the_sum_and_no_other():
    params = started(TINY)
    (loss, (parts, _)), _ = gradient(TINY)(params)
    names = {"importance", "load", "z", "local/text", "global/image", "global/text"}
    assert {f"loss/{n}" for n in names} | {
        "loss",
        "loss/contrastive",
        "loss/auxiliary",
        "temperature",
    } == set(parts)
    mean = np.mean([parts[f"loss/{name}"] for name in names])
    expected = parts["loss/contrastive"] + TINY.loss.auxiliary * mean
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    off = with_loss(importance=False, load=False, local=(), threshold_image=0.0)
    (_, (fewer, _)), _ = gradient(off)(params)
    assert {n for n in fewer if n.startswith("loss/")} == {
        "loss/contrastive",
        "loss/auxiliary",
        "loss/z",
        "loss/global/text",
    }


def test_the_router_learns_from_the_task_alone():
    params = started(TINY)
    _, grads = gradient(with_loss(auxiliary=0.0))(params)
    router = grads["Encoder"]["encoderblock_0"]["Moe"]["Router"]["dense"]["kernel"]
    assert float(jnp.abs(router).max()) > 0


def test_dense_twin_has_no_auxiliary_loss():
    moe = dataclasses.replace(TINY.model.moe, placement="none")
    dense = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, moe=moe))
    (loss, (parts, sums)), _ = gradient(dense)(started(dense))
    assert sums == {}
    assert parts["loss/auxiliary"] == 0
    np.testing.assert_allclose(loss, parts["loss/contrastive"])


def test_groups_are_whole_examples_and_do_not_depend_on_chunks():
    model = ModelConfig(moe=MoeConfig(group_size=100))  # 16 + 12 tokens an example: 3 fit
    assert count_groups(model, 12) == 4
    assert count_groups(model, 16) == 8  # two examples each: 3 do not divide 16
    assert count_groups(ModelConfig(moe=MoeConfig(group_size=1)), 6) == 6
