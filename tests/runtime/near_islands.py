"""Fixtures of tests on islands near; a file takes those it uses: `system = near_islands.system`."""

import gc
import time

import pytest

from .ray_in_process import NearIslands


@pytest.fixture(scope="module")
def hosts():
    """Two islands of two devices, for all tests of a file."""
    with NearIslands(2, devices=2) as made:
        yield made


@pytest.fixture
def mortals():
    """As many for a single test, which may lose them."""
    with NearIslands(2, devices=2) as made:
        yield made


@pytest.fixture
def system(hosts):
    """A runtime over `hosts` in which nothing is left when all results are gone."""
    with hosts.runtime(patience=30.0) as made:
        yield made
        gc.collect()
        made.drain()
        assert made.store.live() == 0


@pytest.fixture
def here(system):
    return system.virtual_devices("island0").add_slice(1)


@pytest.fixture
def there(system):
    return system.virtual_devices("island1").add_slice(1)


def kept(hosts):
    """How many arrays the islands hold when nothing is on its way."""
    held, since = None, time.monotonic()
    while time.monotonic() < since + 0.1:  # runs end a moment after their results
        gc.collect()
        now = hosts.held()
        if now != held:
            held, since = now, time.monotonic()
        time.sleep(0.01)
    return held
