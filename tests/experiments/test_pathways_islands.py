"""Training steps by pathways whose slices are on islands elsewhere: the same numbers as at home."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest
from byways.experiments.pathways_step import PathwaysStep

from byways import runtime as rt

from ..runtime.ray_in_process import NearIslands

_spec = importlib.util.spec_from_file_location(
    "pathways_cases", Path(__file__).with_name("pathways_cases.py")
)
cases = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(cases)


def steps(config, slices, count):
    """Losses, metrics and the canonical state after so many steps."""
    training = PathwaysStep(config, slices=slices).training()
    state, losses = training.enter(training.start()), []
    for number in range(count):
        state, loss = training.step(state, training.put(cases.batch_of(config, number)))
        losses.append(float(np.asarray(loss)))
    metrics, state = training.read(state)
    return losses, jax.device_get((metrics, training.canonical(state)))


@contextlib.contextmanager
def of_messages():
    """Islands that are objects of this process."""
    hosts = NearIslands(2)
    try:
        with hosts.runtime() as system:
            yield system
    finally:
        hosts.close()


@contextlib.contextmanager
def of_processes():
    """Islands of a Ray."""
    pytest.importorskip("ray")
    with rt.RayRuntime(2) as system:
        yield system


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("islands", [of_messages, of_processes])
@pytest.mark.parametrize(
    ("config", "updates"),
    [
        pytest.param(cases.VMOE, "sparse", id="vmoe-muon-sparse"),
        pytest.param(cases.PALM, "exact", id="palm"),
        pytest.param(cases.LIMOE, "exact", id="limoe-adamw"),
        pytest.param(cases.TOWERS, "exact", id="towers-adamw"),
    ],
)
def test_steps_on_two_islands_are_those_of_this_process(config, updates, islands):
    config = dataclasses.replace(config, execution="pathways", expert_updates=updates)
    with islands() as system:
        slices = [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
        losses, found = steps(config, slices, 3)
    wanted_losses, wanted = steps(dataclasses.replace(config, devices=2), None, 3)
    np.testing.assert_allclose(losses, wanted_losses, rtol=1e-6)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, wanted)
