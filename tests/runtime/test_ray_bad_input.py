"""What islands elsewhere are given that cannot be: clear errors, no waiting, nothing kept."""

import gc

import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import ray_code
from byways.runtime.errors import IslandLost, StoreFull

from byways import runtime as rt

from . import near_islands
from .near_islands import kept
from .peers import until

hosts, system = near_islands.mortals, near_islands.system


def on(system, island, fn=lambda x: x + 1, name="node"):
    part = system.virtual_devices(island).add_slice(1)
    return part, rt.computation(fn, part, name=name)


def test_a_handle_that_is_gone(system, hosts):
    part, add = on(system, "island0")
    before = kept(hosts)
    x = part.put(np.ones(3, np.float32))
    np.testing.assert_array_equal(add(x).result(), np.full(3, 2.0))
    x.delete()
    x.delete()
    with pytest.raises(rt.ValueReleased, match="donated or deleted"):
        add(x)
    with pytest.raises(rt.ValueReleased, match="donated or deleted"):
        np.asarray(x)
    del x
    assert kept(hosts) == before


def test_an_array_of_a_lost_island(system, hosts):
    mine, add = on(system, "island0")
    x, y = mine.put(np.ones(3, np.float32)), add(np.ones(3, np.float32))
    _, double = on(system, "island1", lambda x: 2 * x)
    np.testing.assert_array_equal(double(x).result(), np.full(3, 2.0))
    before = kept(hosts)["island1"]
    hosts.kill("island0")
    until(lambda: system.islands["island0"].lost)
    with pytest.raises(IslandLost, match="island0"):
        y.result()
    for given in (x, y):
        with pytest.raises(IslandLost, match="island0"):
            double(given)
    with pytest.raises(IslandLost, match="island0"):
        np.asarray(x)
    # The other island neither waits nor keeps anything.
    np.testing.assert_array_equal(double(np.ones(3, np.float32)).result(), np.full(3, 2.0))
    assert kept(hosts)["island1"] == before
    system.restart_island("island0")
    with pytest.raises(IslandLost, match="island0"):  # of the process that is gone
        double(x)
    np.testing.assert_array_equal(add(np.ones(3, np.float32)).result(), np.full(3, 2.0))


def test_a_budget_that_is_full(hosts):
    with hosts.runtime(memory_budget=1000, patience=0.5) as system:
        _, add = on(system, "island0")
        one = add(np.zeros(150, np.float32))
        with pytest.raises(StoreFull, match="island 'island0', whose budget is 1,000"):
            add(np.zeros(150, np.float32)).result()
        with pytest.raises(StoreFull, match="more than the whole budget"):
            add(np.zeros(300, np.float32)).result()
        one.release()
        assert add(np.zeros(150, np.float32)).result()[0] == 1
        gc.collect()
        system.drain()
        assert system.store.live() == 0
    assert set(kept(hosts).values()) == {0}


def test_what_does_not_go_because_of_its_size_fails_alone(system, hosts):
    """As where the store through which messages go has no room for what one of them carries."""
    _, add = on(system, "island0")
    small, large = np.zeros(10, np.float32), np.zeros(10_000, np.float32)
    assert add(small).result()[0] == 1
    before, line = kept(hosts), hosts.lines["island0"]
    send = type(line).send

    def full(number, first, ops):
        if any(op[0] == "put" and op[2][0].nbytes > 1000 for op in ops):
            raise MemoryError("no room")
        send(line, number, first, ops)

    line.send = full
    ill, well = add(large), add(small)
    for _ in range(2):
        with pytest.raises(
            StoreFull, match=r"arrays of this process cannot be sent to .*: no room"
        ):
            ill.result()
    assert well.result()[0] == 1
    del ill, well
    assert kept(hosts) == before


def test_an_island_that_cannot_be_told_anything_is_lost(system, hosts):
    _, add = on(system, "island0")
    value = add(np.zeros(10, np.float32))
    assert value.result()[0] == 1

    def broken(*_):
        raise OSError("no way")

    hosts.lines["island0"].send = broken
    with pytest.raises(IslandLost, match="island0"):
        add(value).result()
    assert system.islands["island0"].lost
    assert "'island0' cannot be told: OSError: no way" in str(hosts.outboxes["island0"].lost)


def test_an_island_that_raises_while_it_compiles(system, hosts, monkeypatch):
    _, add = on(system, "island0", name="add")
    before = kept(hosts)
    plain = ray_code.unpacked

    def refuse(*_):
        raise ValueError("not on this island")

    monkeypatch.setattr(ray_code, "unpacked", refuse)
    for _ in range(2):
        with pytest.raises(rt.NodeError, match=r"'add' .*on island 'island0'.*not on this island"):
            add(jnp.ones(3))
    assert kept(hosts) == before
    monkeypatch.setattr(ray_code, "unpacked", plain)
    np.testing.assert_array_equal(add(jnp.ones(3)).result(), np.full(3, 2.0))
