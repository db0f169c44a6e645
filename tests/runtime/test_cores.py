"""Islands that keep to cores: which cores, and what cannot be had."""

import os
import subprocess
import sys
import threading

import jax.numpy as jnp
import pytest
from byways.runtime.ray_actor import keep_to_cores

from byways import runtime as rt

CHILD = """
import os, threading
from byways.runtime.ray_actor import keep_to_cores
end, there = threading.Event(), threading.Event()
def older():
    there.wait()
    print(sorted(os.sched_getaffinity(0)))
thread = threading.Thread(target=older)
thread.start()
have = sorted(os.sched_getaffinity(0))
keep_to_cores(len(have) + 1, 1)
there.set()
thread.join()
print([have[1 % len(have)]], sorted(os.sched_getaffinity(0)))
"""
needs_binding = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system binds no threads"
)


@needs_binding
def test_all_threads_of_a_process_keep_to_its_cores_counted_round():
    done = subprocess.run([sys.executable, "-P", "-c", CHILD], capture_output=True, text=True)
    older, mine = done.stdout.splitlines()
    assert mine == f"{older} {older}"


@needs_binding
def test_more_cores_than_there_are_is_refused():
    before = os.sched_getaffinity(0)
    with pytest.raises(ValueError, match="cores=100000, and the island's host gives it"):
        keep_to_cores(0, 100_000)
    assert os.sched_getaffinity(threading.get_native_id()) == before


def test_no_core_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="cores=0: one or more, or None for all"):
        rt.RayIslands(2, cores=0)


@needs_binding
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_processes_keep_to_a_core_each_and_have_threads_to_spare():
    pytest.importorskip("ray")
    have = sorted(os.sched_getaffinity(0))
    with rt.RayIslands(2, cores=1) as hosts, rt.RayRuntime(hosts=hosts) as system:
        parts = [system.virtual_devices(name).add_slice(1) for name in system.islands]
        stage = lambda w, x: jnp.tanh(x @ w)  # noqa: E731
        loss = lambda y, target: jnp.mean((y - target) ** 2)  # noqa: E731
        run = rt.pipeline([stage, stage], parts, loss, micro_batches=2)
        value, _ = run([jnp.eye(4), jnp.eye(4)], jnp.ones((4, 4)), jnp.zeros((4, 4)))
        wanted = float(jnp.tanh(jnp.tanh(1.0)) ** 2)
        assert float(value.result()) == pytest.approx(wanted, rel=1e-5)
        for n, pid in enumerate(hosts.pids.values()):
            threads = [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
            core = {have[n % len(have)]}
            assert {frozenset(os.sched_getaffinity(thread)) for thread in threads} == {
                frozenset(core)
            }
