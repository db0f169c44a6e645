"""Islands that are processes of a Ray: whose they are, what they are, and what they last."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import ray_cluster, ray_versions

from byways import runtime as rt

from .ray_processes import a_ray_to_use, alive, gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
# Another controller: it says when it has the islands, and waits to be killed.
OTHER = """
import sys, time
import numpy as np
from byways import runtime as rt
hosts = rt.RayIslands(["lasts"], address=sys.argv[1], lasting=True, silence=2.0)
system = rt.RayRuntime(hosts=hosts)
part = system.virtual_devices().add_slice(1)
kept = part.put({"w": np.ones(1000, np.float32)})
assert np.asarray(kept["w"]).sum() == 1000
print(hosts.pids["lasts"], hosts.held(), flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def address():
    with a_ray_to_use(pytest.importorskip("ray")) as found:
        yield found


def double(hosts, x, **options):
    with rt.RayRuntime(hosts=hosts) as system:
        part = system.virtual_devices().add_slice(1)
        return rt.computation(lambda x: 2 * x, part)(x, **options).result()


def test_lasting_islands_have_one_controller_and_are_taken_over_when_it_is_gone(address):
    command = [sys.executable, "-P", "-c", OTHER, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        the_other(other, address)


def the_other(other, address):
    try:
        assert other.stdout is not None
        pid, held = other.stdout.readline().split(maxsplit=1)
        assert held.strip() == "{'lasts': 1}"
        words = f"island 'lasts' has a controller, .*process {other.pid} on .*since 20"
        with pytest.raises(rt.IslandTaken, match=words):
            rt.RayIslands(["lasts"], address=address, lasting=True)
        assert other.poll() is None
        other.kill()
        other.wait()
        with rt.RayIslands(["lasts"], address=address, lasting=True) as hosts:
            assert hosts.pids == {"lasts": int(pid)}  # the process, without the other's array
            assert hosts.held() == {"lasts": 0}
            np.testing.assert_array_equal(double(hosts, np.ones(2, np.float32)), [2, 2])
        assert alive(int(pid))
        with rt.RayIslands(["lasts"], address=address, lasting=True) as hosts:
            assert hosts.pids == {"lasts": int(pid)}
            hosts.restart("lasts")
            assert hosts.pids != {"lasts": int(pid)}
            np.testing.assert_array_equal(double(hosts, np.ones(2, np.float32)), [2, 2])
            last = hosts.pids["lasts"]
        with pytest.raises(rt.IslandMismatch, match="1 of cpu in place of 2 CPU"):
            rt.RayIslands(["lasts"], devices=2, address=address, lasting=True)
        with rt.RayIslands(["lasts"], address=address, lasting=True) as hosts:
            assert hosts.pids == {"lasts": last}
            hosts.remove("lasts")
        assert gone([int(pid), last])
    finally:
        other.kill()


def test_other_versions_are_refused_before_anything_is_sent(address, monkeypatch):
    monkeypatch.setattr(ray_versions, "WIRE", "an older one")
    with pytest.raises(rt.IslandMismatch, match=r"island 'island0'.*wire .* \(here an older one\)"):
        rt.RayIslands(1, address=address)


def test_other_devices_than_asked_for(address, monkeypatch):
    with pytest.raises(rt.RayMissing, match=r"an island wants a core and a GPU.* 0 GPUs"):
        rt.RayIslands(1, address=address, platform="gpu", patience=2.0)
    begun = ray_cluster.RayIslands._began

    def more(self, name, peer, devices, address, end):
        self._platform = "cpu"
        try:
            begun(self, name, peer, 3, address, end)
        finally:
            self._platform = "tpu"
        return begun(self, name, peer, devices, address, end)

    monkeypatch.setattr(ray_cluster.RayIslands, "_began", more)
    with pytest.raises(rt.IslandMismatch, match=r"other devices than asked for: 3 of cpu .* 2 tpu"):
        rt.RayIslands(1, devices=2, address=address)


def test_several_machines_have_to_be_said(address, monkeypatch):
    hosts = rt.RayIslands(2, address=address, exposed=True)  # at the address that Ray knows
    with hosts, rt.RayRuntime(hosts=hosts) as system:
        parts = [system.virtual_devices(f"island{n}").add_slice(1) for n in range(2)]
        near, far = (rt.computation(lambda x: x + 1, part) for part in parts)
        np.testing.assert_array_equal(far(near(np.ones(2, np.float32))).result(), [3, 3])
    waited = ray_cluster.RayIslands._wait

    def elsewhere(self, name, answers, end):
        told = waited(self, name, answers, end)
        if name == "island1" and isinstance(told[0], dict):
            told[0] = told[0] | {"address": "192.0.2.7:1"}
        return told

    monkeypatch.setattr(ray_cluster.RayIslands, "_wait", elsewhere)
    with pytest.raises(rt.IslandMismatch, match=r"machines \(127.0.0.1, 192.0.2.7\).*exposed=True"):
        rt.RayIslands(2, address=address)


def test_numbers_of_64_bits(address):
    with jax.enable_x64(True), rt.RayIslands(1, address=address) as hosts:
        found = double(hosts, jnp.arange(3, dtype=jnp.float64) / 3)
        assert found.dtype == jnp.float64
        np.testing.assert_array_equal(found, 2 * np.arange(3) / 3)
