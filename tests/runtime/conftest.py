"""What many tests of the runtime are given."""

import gc
import logging

import pytest

from byways import runtime as rt


@pytest.fixture
def system(monkeypatch):
    """A runtime in which nothing is left when all results are gone."""
    # It logs errors of callbacks, and pytest keeps what is logged: also the frames.
    monkeypatch.setattr(logging.getLogger("jax._src.callback"), "disabled", True)
    with rt.Runtime() as made:
        yield made
        gc.collect()
        made.drain()
        assert made.store.live() == 0
        assert not made.default.runs


@pytest.fixture
def part(system):
    return system.virtual_devices().add_slice(1)


@pytest.fixture
def add(part):
    return rt.computation(lambda x: x + 1, part, name="add")
