"""What many tests of the runtime are given."""

import gc
import logging
import os
from pathlib import Path

import jax
import pytest
from byways.runtime.ray_outbox import Outbox

from byways import runtime as rt

from .on_islands import ANYWHERE, used_by_tests
from .ray_in_process import NearIslands

# Where the runtimes of all tests have their islands: `near`, in hosts that are objects of this
# process; `ray`, in other processes; by default, on the devices of this process.
ISLANDS = os.environ.get("BYWAYS_TEST_ISLANDS", "")
# Of `ray`, how many processes are an island.
HOSTS = int(os.environ.get("BYWAYS_TEST_HOSTS", "1"))


def pytest_collection_modifyitems(config, items):
    """On islands elsewhere, only what is about a runtime whatever it is made of."""
    if ISLANDS:
        here = str(Path(__file__).parent)
        apart = [
            item for item in items if str(item.path).startswith(here) and not _anywhere(item.path)
        ]
        config.hook.pytest_deselected(items=apart)
        items[:] = [item for item in items if item not in apart]


def _anywhere(path):
    return path.name in ANYWHERE


@pytest.fixture(scope="session", autouse=bool(ISLANDS))
def elsewhere():
    """Hosts for two islands, and `rt.Runtime` made one that uses them."""
    if ISLANDS == "near":
        hosts = NearIslands(2, devices=8)
    elif ISLANDS == "ray":
        hosts = rt.RayIslands(
            2,
            devices=8 // HOSTS,
            hosts_per_island=HOSTS,
            address=os.environ.get("BYWAYS_TEST_RAY"),
        )
    else:
        pytest.exit(f"BYWAYS_TEST_ISLANDS={ISLANDS}: near or ray", 2)
    with used_by_tests(hosts):
        yield hosts


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
def no_compiling(monkeypatch):
    """Call it, and from then on nothing may be compiled, wherever the islands are."""

    def begin():
        def refuse(*_, **__):
            raise AssertionError("something was compiled")

        def ask(outbox, what, *given):
            return refuse() if what == "compile" else plain(outbox, what, *given)

        plain = Outbox.ask
        monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
        monkeypatch.setattr(Outbox, "ask", ask)

    return begin


@pytest.fixture
def part(system):
    return system.virtual_devices().add_slice(1)


@pytest.fixture
def add(part):
    return rt.computation(lambda x: x + 1, part, name="add")
