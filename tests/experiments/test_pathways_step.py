"""Training by pathways equals the fused step: values, gradients, ten steps with each optimiser."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.experiments import ConfigError
from byways.experiments.contrastive import contrastive_task
from byways.experiments.execution import by_pathways
from byways.experiments.forward import Forward, Placed
from byways.experiments.library import image_embedding, text_embedding
from byways.experiments.prepare import prepare
from byways.models import PerExpert, lower
from byways.runtime import arrays

_spec = importlib.util.spec_from_file_location(
    "pathways_cases", Path(__file__).with_name("pathways_cases.py")
)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)
LIMOE, VMOE, PALM = cases.LIMOE, cases.VMOE, cases.PALM


def executed(config, execution, devices=1):
    return dataclasses.replace(config, execution=execution, devices=devices)


def by_path(tree):
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize(
    ("config", "devices"),
    [
        pytest.param(LIMOE, 2, id="limoe-adamw-2dev"),
        pytest.param(VMOE, 1, id="vmoe-muon-1dev", marks=pytest.mark.slow),
        pytest.param(PALM, 4, id="palm-4dev", marks=pytest.mark.slow),
        pytest.param(
            cases.with_moe(LIMOE, selected=2), 8, id="limoe-k2-8dev", marks=pytest.mark.slow
        ),
    ],
)
def test_ten_steps_equal_the_fused_ones_in_float64(config, devices):
    with cases.in_float64():
        (losses, state, metrics), (others, wanted, expected) = (
            cases.train_steps(prepare(executed(config, how, n)), config)
            for how, n in (("pathways", devices), ("fused", 1))
        )
    np.testing.assert_allclose(losses, others, rtol=1e-9)
    assert losses.dtype == np.float64
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    found, wanted = by_path(state), by_path(wanted)
    for name, value in wanted.items():
        # Biases of keys have no gradient (a softmax does not heed them), but for rounding: 1e-17.
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-14, err_msg=name)
    assert metrics.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(metrics[name], expected[name], rtol=1e-6, atol=1e-12)


@functools.cache
def objective(selected):
    """Fused, the value and gradient; and what is lowered; of parameters, batch and key."""
    config = cases.with_moe(LIMOE, selected=selected, noise_std=0.0)
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, load=False))
    fused = contrastive_task(config).objective
    other = contrastive_task(dataclasses.replace(config, model=by_pathways(config.model)))
    params = jax.jit(contrastive_task(config).init)(jax.random.key(0))
    batch = jax.tree.map(jnp.asarray, cases.batch_of(config))
    gradient = jax.jit(jax.value_and_grad(fused, has_aux=True))
    return gradient, other.objective, cases.different(params), batch


def routers(params, how):
    """The parameters with a router that spreads tokens, crowds them, or knows one expert only."""
    moe = params["Encoder"]["encoderblock_0"]["Moe"]
    kernel = np.array(moe["Router"]["dense"]["kernel"])
    if how == "balanced":
        kernel *= 5
    elif how == "skewed":
        kernel[:, 3:] *= 0.1
    else:  # all logits are equal, and the first expert is taken
        kernel[:] = 0
    block = {
        **params["Encoder"]["encoderblock_0"],
        "Moe": {**moe, "Router": {"dense": {"kernel": jnp.asarray(kernel)}}},
    }
    return {**params, "Encoder": {**params["Encoder"], "encoderblock_0": block}}


@pytest.mark.parametrize(
    ("selected", "devices"), [(1, 1), pytest.param(1, 8, marks=pytest.mark.slow), (2, 4)]
)
def test_loss_and_gradients_equal_the_fused_ones(selected, devices):
    gradient, function, params, batch = objective(selected)
    key = jax.random.key(1)
    lowered = lower(function, params, batch, key, devices=jax.devices()[:devices])
    backward, awake = lowered.value_and_grad(0), {}
    for how in ("balanced", "skewed", "one expert"):
        mine = routers(params, how)
        (loss, _), wanted = gradient(mine, batch, key)
        (found, _), grads = arrays(backward(*lowered.split(mine, batch, key)))
        np.testing.assert_allclose(found, loss, rtol=1e-6)
        whole = by_path(jax.tree.map(_stacked, grads, is_leaf=_is_apart))
        apart = [x for x in jax.tree.leaves(grads, is_leaf=_is_apart) if _is_apart(x)]
        awake[how] = sorted(apart[0].arrays)
        for name, value in by_path(wanted).items():
            if "['key']['bias']" in name:  # zero, but for rounding
                continue
            limit = 1e-5 * np.abs(value).max() + 1e-5 * np.abs(value)
            assert np.all(np.abs(whole[name] - value) <= limit), (how, name)
    # Who sleeps has no gradient at all.
    assert awake["one expert"] == list(range(selected))
    assert len(awake["balanced"]) > 4


def _is_apart(leaf):
    return isinstance(leaf, PerExpert)


def _stacked(leaf):
    if not _is_apart(leaf):
        return leaf
    some = next(iter(leaf.arrays.values()))
    rows = [leaf.arrays.get(e, np.zeros(some.shape, some.dtype)) for e in range(leaf.count)]
    return np.stack([np.asarray(row) for row in rows])


def test_images_and_texts_each_alone_by_pathways():
    """No token of the other modality, and rows of padding that are never routed."""
    _, _, params, batch = objective(1)
    placed, mask = Placed(jax.device_get(params)), np.arange(8) < 5
    inputs = {
        image_embedding: (batch["image"], mask),
        text_embedding: (batch["text"], batch["text_mask"], mask),
    }
    for make, given in inputs.items():
        found = [
            np.asarray(Forward(make, LIMOE.model, placed, how)(*given))[:5]
            for how in ("fused", "pathways")
        ]
        np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_frozen_places_stay_and_the_rest_equals_the_fused_step():
    places = ("Encoder/encoderblock_0/Moe/Mlp/Dense_0", "text")
    config = dataclasses.replace(LIMOE, freeze=places)
    (losses, state, _), (others, wanted, _) = (
        cases.train_steps(prepare(executed(config, how)), config, steps=3)
        for how in ("pathways", "fused")
    )
    np.testing.assert_allclose(losses, others, rtol=1e-4)
    assert jax.tree.structure(state) == jax.tree.structure(wanted)
    for tree in ("text", "Encoder"):
        part, other = (s["params"][tree] for s in (state, wanted))
        if tree == "Encoder":
            part, other = (p["encoderblock_0"]["Moe"]["Mlp"]["Dense_0"] for p in (part, other))
        jax.tree.map(np.testing.assert_array_equal, part, other)


def test_an_optimiser_that_mixes_experts_is_refused_before_anything_is_compiled():
    config = cases.with_moe(LIMOE, num_experts=160)
    model = dataclasses.replace(config.model, hidden=160)
    optimizer = dataclasses.replace(config.optimizer, name="adafactor")
    config = dataclasses.replace(config, model=model, optimizer=optimizer, execution="pathways")
    with pytest.raises(ConfigError, match=r"factors the second moments .* E = 160"):
        prepare(config)
