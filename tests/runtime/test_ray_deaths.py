"""Islands that are processes of a Ray: killed, stopped, started again."""

import contextlib
import os
import signal
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .ray_processes import a_ray_to_use, alive, gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
X = np.ones(2, np.float32)


@pytest.fixture(scope="module")
def address():
    with a_ray_to_use(pytest.importorskip("ray")) as found:
        yield found


def programs(system):
    here, there = (system.virtual_devices(f"island{n}").add_slice(1) for n in range(2))
    near = rt.computation(lambda x: x + 1, here, name="near")
    far = rt.computation(lambda x: x * 2, there, name="far")
    return near, far, rt.program(lambda x: near(far(near(x))))


def test_killed_and_started_again_and_again(address):
    with rt.RayRuntime(2, address=address) as system:
        near, far, both = programs(system)
        pids, threads = [], None
        for n in range(3):
            np.testing.assert_array_equal(both(X).result(), [5, 5])
            np.testing.assert_array_equal(far(near(X)).result(), [4, 4])
            stays = far(X)
            stays.result()
            victim = f"island{n % 2}"
            pid = system.hosts.pids[victim]
            pids.append(pid)
            late = both(X) if n else None  # under way, or nothing is
            os.kill(pid, signal.SIGKILL)
            began = time.monotonic()
            while not system.islands[victim].lost:
                time.sleep(0.01)
                assert time.monotonic() - began < 2
            system.restart_island(victim)
            if late is not None:
                assert_lost_or(late, [5, 5])
            if victim == "island1":
                with pytest.raises(rt.IslandLost):
                    stays.result()
            assert system.hosts.pids[victim] != pid
            threads = threads or threading.active_count()
        np.testing.assert_array_equal(both(X).result(), [5, 5])
        assert threading.active_count() <= threads
        assert sum(system.hosts.held().values()) <= 4
        pids += system.hosts.pids.values()
    assert gone(pids)


def assert_lost_or(value, wanted):
    """It came before the island went, or it is lost; nothing else, and soon."""
    began = time.monotonic()
    with contextlib.suppress(rt.IslandLost):
        np.testing.assert_array_equal(value.result(), wanted)
    assert time.monotonic() - began < 5


def test_alive_and_silent(address):
    with rt.RayRuntime(2, address=address, silence=2.0) as system:
        near, far, both = programs(system)
        np.testing.assert_array_equal(both(X).result(), [5, 5])
        pid = system.hosts.pids["island1"]
        os.kill(pid, signal.SIGSTOP)
        try:
            late = both(X)
            began = time.monotonic()
            for use in (lambda: far(np.zeros(9, np.float32)), late.result):  # one has to compile
                with pytest.raises(rt.IslandLost, match=r"'island1'.*has been silent for 2"):
                    use()
            assert time.monotonic() - began < 6
            assert near(X).result()[0] == 2
            system.restart_island("island1")
            np.testing.assert_array_equal(both(X).result(), [5, 5])
            assert gone([pid])
        finally:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_long_work_and_long_compiling_are_no_silence(address):
    with rt.RayRuntime(1, address=address, silence=1.0) as system:
        part = system.virtual_devices().add_slice(1)

        def long(x):
            import jax

            return jax.lax.fori_loop(0, 4000, lambda _, h: jnp.tanh(h @ x), x)

        def large(x):
            found = [x, x + 1, x + 2]  # not one deep chain, which the compiler's stack bounds
            for n in range(1000):
                found = [jnp.sin(x * n) + jnp.cos(x) for x in found]
            return sum(found)

        work, wide = (rt.computation(f, part, name=f.__name__) for f in (long, large))
        began = time.monotonic()
        wide.lower(X)
        compiled = time.monotonic() - began
        began = time.monotonic()
        work(jnp.ones((400, 400)) / 400).result()
        assert compiled > 1  # which is its silence
        assert time.monotonic() - began > 1
        assert not system.islands["island0"].lost


def test_islands_come_and_go(address):
    ray = pytest.importorskip("ray")
    with rt.RayRuntime(1, address=address) as system:
        before = ray.available_resources()["CPU"]
        system.add_island("more", devices=2)
        part = system.virtual_devices("more").add_slice(2)
        double = rt.computation(lambda x: 2 * x, part)
        np.testing.assert_array_equal(double(X).result(), [2, 2])
        pid = system.hosts.pids["more"]
        system.remove_island("more")
        assert gone([pid])
        end = time.monotonic() + 10
        while ray.available_resources().get("CPU") != before and time.monotonic() < end:
            time.sleep(0.1)
        assert ray.available_resources()["CPU"] == before
        with pytest.raises(rt.RayMissing, match="an island wants 50 cores, and the Ray"):
            add_without_room(system)
        assert set(system.hosts.devices) == {"island0"}


def add_without_room(system):
    hosts = system.hosts
    places = hosts._places
    hosts._patience, places._cores, before = 2.0, 50, (hosts._patience, places._cores)
    try:
        hosts.add("wide")
    finally:
        hosts._patience, places._cores = before


def test_closing_while_an_island_is_started(address):
    hosts = rt.RayIslands(1, address=address)
    pids, raised = list(hosts.pids.values()), []

    def again():
        try:
            hosts.restart("island0")
        except rt.IslandLost as error:
            raised.append(error)

    thread = threading.Thread(target=again)
    thread.start()
    time.sleep(0.5)
    hosts.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(raised) == 1
    assert gone(pids)
