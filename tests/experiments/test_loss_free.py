"""Loss-free balancing moves the biases of routers, but for frozen ones, however it is run."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from byways.experiments.prepare import prepare

from byways import runtime as rt

from . import pathways_cases as cases
from .islands.small import trained

# Two sparse blocks, of which the first is frozen.
_CONFIG = cases.with_moe(cases.VMOE, bias="sign", bias_rate=0.25, group_size=8)
CONFIG = dataclasses.replace(
    _CONFIG,
    model=dataclasses.replace(_CONFIG.model, depth=2),
    optimizer=dataclasses.replace(_CONFIG.optimizer, name="adamw"),
    freeze=("Encoder/encoderblock_0",),
)


def biases(params) -> list[np.ndarray]:
    blocks = (params["Encoder"][f"encoderblock_{number}"] for number in range(2))
    return [np.asarray(block["Moe"]["Router"]["bias"]) for block in blocks]


def after_two_steps(training) -> list[np.ndarray]:
    """The biases, which begin with zeros."""
    state = training.enter(training.start())
    for number in range(2):
        state, _ = training.step(state, training.put(cases.batch_of(CONFIG, number)))
    return biases(training.canonical(state)["params"])


@pytest.fixture(scope="module")
def fused() -> list[np.ndarray]:
    return after_two_steps(prepare(CONFIG))


def test_a_frozen_bias_stays_and_the_others_move(fused):
    frozen, moved = fused
    assert not frozen.any()
    assert set(np.abs(moved).tolist()) <= {0.0, 0.5}
    assert moved.any()


def test_by_pathways_the_same(fused):
    training = prepare(dataclasses.replace(CONFIG, execution="pathways"))
    np.testing.assert_array_equal(after_two_steps(training), fused)


@pytest.mark.slow
def test_over_islands_the_same(fused, tmp_path):
    config = dataclasses.replace(CONFIG, islands=2)
    devices = jax.local_devices()
    with rt.Runtime({"a": devices[:1], "b": devices[1:2]}) as system:
        training, _ = trained(config, system, tmp_path)
        np.testing.assert_array_equal(after_two_steps(training), fused)
