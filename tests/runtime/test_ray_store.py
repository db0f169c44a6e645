"""The way by Ray's object store, in a process that joins a Ray of its own, if there is one."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import importlib.metadata
import logging

try:
    importlib.metadata.version("ray")
except importlib.metadata.PackageNotFoundError:
    print("no Ray")
    raise SystemExit

import ray

ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000,
         _node_ip_address="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)

import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways import runtime as rt

x = jnp.arange(2.0**20).block_until_ready()
with rt.Transfers("here", patience=1.0) as here, rt.Transfers("there", store_from=2**20) as there:
    # What `auto` takes: large, computed, and near.
    assert not there.offer(x)[0].store
    assert not there.offer(x[:100].block_until_ready(), near=True)[0].store
    first, second = there.offer({"x": x}, pulls=2, near=True)
    assert first.store == second.store != ""
    assert rt.Ticket.from_json(first.to_json()) == first
    pinned = there.stats().pinned
    got = here.pull(first)
    taken = got.result()["x"]
    assert got.done()
    assert bool((taken == x).all())
    jax.jit(lambda x: x * 0, donate_argnums=0)(taken).block_until_ready()
    assert bool((here.pull(second).result()["x"] == x).all())  # nobody wrote into the store
    while there.stats().taken < 2:
        time.sleep(0.01)
    assert there.stats().pinned == pinned - x.nbytes
    # By name: waits, and takes everything.
    tree = [jnp.ones((3, 5), jnp.bfloat16), jnp.zeros((0, 2)), jax.random.key(1), jnp.array(True)]
    (ticket,) = there.offer(tree, way="ray")
    for one, other in zip(here.pull(ticket).result(), tree, strict=True):
        assert one.dtype == other.dtype
        assert bool((one == other).all())
    (late,) = there.offer(x, way="ray", expiry=0.05)
    while not there.stats().orphans:
        time.sleep(0.05)
    with pytest.raises((rt.PeerLost, rt.TransferTimeout), match=hex(late.identifier)):
        here.pull(late)
    full = ray.exceptions.ObjectStoreFullError("full")
    with mock.patch.object(ray, "put", side_effect=full):
        with pytest.raises(rt.StoreFull, match="no room for 4,194,304 bytes"):
            there.offer(x, way="ray")
        assert not there.offer(x, near=True)[0].store
    with pytest.raises(rt.TransferError, match="nowhere in Ray"):
        here.pull(rt.Ticket(3, there.peer, late.leaves, store="?"))
ray.shutdown()
print("done")
"""


@pytest.mark.slow
def test_by_rays_store(tmp_path):
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],
        cwd=tmp_path,
        env=os.environ | {"PYTHONSAFEPATH": "1", "JAX_PLATFORMS": "cpu"} | quiet,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] in ("done", "no Ray")
