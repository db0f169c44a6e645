"""Islands of other processes that are lost and start again, without other processes."""

import gc
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from . import near_islands

X = np.ones(2, np.float32)
hosts, system = near_islands.mortals, near_islands.system
here, there = near_islands.here, near_islands.there


def test_a_new_process_takes_the_place_of_one_that_died(hosts, system, here, there):
    near = rt.computation(lambda x: x + 1, here, name="near")
    far = rt.computation(lambda x: x * 2, there, name="far")
    both = rt.program(lambda x: near(far(near(x))))
    told = []
    system.on_lost(told.append)
    hosts.on_lost(told.append)
    stays, kept = far(X), there.put({"w": jnp.ones(3)})
    stays.result()
    np.testing.assert_array_equal(both(X).result(), [5, 5])
    hosts.kill("island1")
    with pytest.raises(rt.IslandLost, match="island 'island1' is lost"):
        far(X).result()
    assert system.islands["island1"].lost
    hosts.outboxes["island1"].join()
    assert told == ["island1"] * 2
    system.restart_island("island1")
    assert not system.islands["island1"].lost
    # Transfers go both ways, to the new process and from it.
    np.testing.assert_array_equal(both(X).result(), [5, 5])
    np.testing.assert_array_equal(far(near(X)).result(), [4, 4])
    for use in (stays.result, lambda: near(stays), lambda: far(kept["w"])):
        with pytest.raises(rt.IslandLost, match="island 'island1' is lost"):
            use()
    # And once more, while it is there.
    system.restart_island("island1")
    np.testing.assert_array_equal(both(X).result(), [5, 5])
    assert told == ["island1"] * 4
    assert hosts.outboxes["island1"].peer == "island1#3"


def test_what_is_brought_once_is_brought_to_the_new_process_too(hosts, system, here, there):
    shapes = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    switch = rt.Switch(lambda w, x: x @ w, [here, there], shapes, 2)
    weights = rt.Branches([jnp.eye(2), 2 * jnp.eye(2)])
    rows, counts = jnp.ones((4, 2)), jnp.array([2, 2])
    wanted = np.array([[1, 1], [1, 1], [2, 2], [2, 2]], np.float32)
    np.testing.assert_array_equal(switch(counts, rows, weights).result(), wanted)
    hosts.kill("island1")
    system.restart_island("island1")
    np.testing.assert_array_equal(switch(counts, rows, weights).result(), wanted)
    assert not [made for _, made in system._backend._brought.values() if made.outbox.lost]


def test_what_waits_for_the_dead_is_told_although_a_new_one_has_its_name(
    hosts, system, here, there
):
    near = rt.computation(lambda x: x + 1, here, name="near")
    far = rt.computation(lambda x: x * 2, there, name="far")
    both = rt.program(lambda x: near(far(x)))
    both(X).result()
    hosts.lines["island1"].send = lambda *_: None  # it dies before it sends what island0 takes
    late = both(X)
    system.restart_island("island1")
    with pytest.raises(rt.IslandLost, match="island 'island1' is lost"):
        late.result()
    np.testing.assert_array_equal(both(X).result(), [3, 3])


def test_a_process_that_does_not_come(hosts, system, here, there):
    far = rt.computation(lambda x: x * 2, there, name="far")
    far(X).result()
    hosts.kill("island1")
    hosts.refuses = rt.RayMissing("the machine is on fire")
    for restart in (system.restart_island, hosts.restart):
        with pytest.raises(
            rt.IslandLost, match=r"'island1' does not start again, after \d+\.\d s: .*on fire"
        ):
            restart("island1")
        assert system.islands["island1"].lost
        with pytest.raises(rt.IslandLost):
            far(X)
    hosts.refuses = None
    system.restart_island("island1")
    np.testing.assert_array_equal(far(X).result(), [2, 2])
    with pytest.raises(rt.SliceError, match="no island 'moon': there are"):
        hosts.restart("moon")


def test_islands_come_and_go(hosts, system, here):
    near = rt.computation(lambda x: x + 1, here, name="near")
    system.add_island("third", devices=2)
    far = rt.computation(lambda x: x * 2, system.virtual_devices("third").add_slice(2))
    np.testing.assert_array_equal(near(far(near(X))).result(), [5, 5])
    with pytest.raises(rt.SliceError, match="there is an island 'third'"):
        system.add_island("third")
    system.remove_island("third")
    assert "third" in hosts.devices  # the runtime did not start the others, so it ends none
    hosts.remove("third")
    assert set(hosts.devices) == {"island0", "island1"} == set(hosts.held())
    with pytest.raises(rt.IslandLost):
        far(X)
    assert hosts.add() == "island2"
    with pytest.raises(rt.SliceError, match="there is an island 'island2': take another"):
        hosts.add("island2")
    with pytest.raises(ValueError, match="devices=0"):
        hosts.add("other", devices=0)


def test_a_runtime_that_comes_when_an_island_is_lost_already(hosts):
    hosts.kill("island0")
    with pytest.raises(rt.IslandLost):
        hosts.held()
    with hosts.runtime() as system:
        assert system.islands["island0"].lost
        assert system.virtual_devices().island.name == "island1"
        system.restart_island("island0")
        part = system.virtual_devices("island0").add_slice(1)
        assert rt.computation(lambda x: x + 1, part)(X).result()[0] == 2


def test_an_island_without_devices_is_lost_as_any_other(hosts, system, there):
    far = rt.computation(lambda x: x * 2, there, name="far")
    far(X).result()
    for device in list(system.islands["island0"].devices):
        system.remove_device("island0", device)
    hosts.kill("island1")
    with pytest.raises(rt.IslandLost, match="island 'island1' is lost"):
        far(X).result(20.0)
    assert system.islands["island1"].lost
    system.restart_island("island1")
    np.testing.assert_array_equal(far(X).result(), [2, 2])
    with pytest.raises(rt.SliceError, match=r"island 'island0' has no devices.*: add_device first"):
        system.restart_island("island0")
    assert not system.islands["island0"].lost
    hosts.restart("island0")  # who has nothing there is not in the way
    assert system.islands["island0"].lost
    system.add_device("island0", hosts.devices["island0"][0])
    system.restart_island("island0")
    near = rt.computation(lambda x: x + 1, system.virtual_devices("island0").add_slice(1))
    np.testing.assert_array_equal(near(X).result(), [2, 2])


def test_who_waits_is_told_whatever_becomes_of_those_that_are_told_first(hosts, system, there):
    far = rt.computation(lambda x: x * 2, there, name="far")
    far(X).result()
    told, outbox = [], hosts.outboxes["island1"]
    hosts.on_lost(told.append)
    hosts.lines["island1"].send = lambda *_: None
    late = far(X)

    def ill(_):
        raise ValueError("ill")

    outbox._losing = ill
    with pytest.raises(ValueError, match="ill"):
        outbox.lose(rt.IslandLost("island 'island1' is lost: by word"))
    with pytest.raises(rt.IslandLost, match="island 'island1' is lost: by word"):
        late.result(20.0)
    assert told == ["island1"]


def test_a_process_that_dies_before_its_island_is_anybodys(hosts, system, there, monkeypatch):
    told, begin = [], hosts._begin
    system.on_lost(told.append)

    def dies(names, *given):
        begin(names, *given)
        for name in names:
            hosts.kill(name)
            hosts.outboxes[name].join()

    monkeypatch.setattr(hosts, "_begin", dies)
    system.restart_island("island1")
    assert system.islands["island1"].lost
    assert told == ["island1"] * 2
    system.add_island("third")
    assert system.islands["third"].lost
    assert told == ["island1", "island1", "third"]
    monkeypatch.undo()
    system.restart_island("island1")
    far = rt.computation(lambda x: x * 2, there, name="far")
    np.testing.assert_array_equal(far(X).result(), [2, 2])


def test_a_loss_that_is_seen_twice_is_told_once(hosts, system):
    told, outbox = [], hosts.outboxes["island1"]
    system.on_lost(told.append)
    for tell in (system.outbox_losing,) * 2 + (system.outbox_lost,) * 2:
        tell(outbox)
    assert told == ["island1"]


def test_nothing_is_left_of_the_dead(hosts, system, here, there):
    near = rt.computation(lambda x: x + 1, here, name="near")
    far = rt.computation(lambda x: x * 2, there, name="far")
    both = rt.program(lambda x: near(far(near(x))))

    def once():
        both(X).result()
        system.restart_island("island1")
        return both(X).result()

    once()
    threads = threading.active_count()
    for _ in range(3):
        once()
    gc.collect()
    assert threading.active_count() <= threads + 3  # hosts of this process never end theirs
    assert sum(hosts.held().values()) <= 4
