"""What many tests of the runtime are given."""

import gc
import logging
import os

import jax
import pytest
from byways.runtime.ray_outbox import Outbox

from byways import runtime as rt

# Where the runtimes of all tests have their islands: `near`, in hosts that are objects of this
# process; `ray`, in other processes; by default, on the devices of this process.
ISLANDS = os.environ.get("BYWAYS_TEST_ISLANDS", "")


@pytest.fixture(scope="session", autouse=bool(ISLANDS))
def elsewhere():
    """Hosts for two islands, and `rt.Runtime` made one that uses them."""
    from .on_islands import runtimes_on
    from .ray_in_process import NearIslands

    if ISLANDS == "near":
        hosts = NearIslands(2, devices=8)
    else:
        hosts = rt.RayIslands(2, devices=8, address=os.environ.get("BYWAYS_TEST_RAY"))
    plain, rt.Runtime = rt.Runtime, runtimes_on(hosts)
    yield hosts
    rt.Runtime = plain
    hosts.close()


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
