"""Clients of a controller whose islands are hosts apart from it: what they say of themselves."""

import gc
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.attach_state import this_host, write_cluster

from byways import runtime as rt

from . import attached, near_islands
from .attached import TOKEN, client_of, eventually, left

hosts, controller = near_islands.mortals, attached.controller
system = near_islands.system


def held(hosts):
    """How many arrays each host has, when all that was let go has been told."""
    for outbox in hosts.outboxes.values():
        outbox.flush()
    return list(hosts.held().values())


def test_what_islands_hold_is_told_and_freed(controller, hosts):
    with client_of(controller, name="me") as client:
        here, there = (client.virtual_devices(f"island{n}").add_slice(1) for n in range(2))
        double = rt.computation(lambda x: 2 * x, here, name="double")
        total = rt.computation(lambda x, y: jnp.sum(x * y), there, name="total")
        x = here.put(np.ones(1000, np.float32))

        @rt.program
        def run(x):
            y = double(x)
            return total(y, double(y)), y

        loss, y = run(x)
        assert float(loss.result()) == 8000
        client.names["y"] = y

        def told(number):
            island = client.status()["islands"][number]
            return island["arrays"], island["held"], island["bytes"]

        # What was let go is told a little later.
        eventually(lambda: told(0) == (2, 8000, 4000) and told(1) == (1, 4, 4))
        pulled = lambda: client.status()["islands"][1]["transfers"]["pulled_bytes"]  # noqa: E731
        eventually(lambda: pulled() == 8000)
        assert [len(island.devices) for island in client.islands.values()] == [2, 2]
        both = rt.value_and_grad(lambda x: run(x)[0])
        assert both(x)[1].result()[0] == 16
        del loss, y, x, both
    left(controller)
    eventually(lambda: held(hosts) == [1, 0])
    with client_of(controller) as client:
        assert client.names["y"].result()[0] == 2
        del client.names["y"]
    left(controller)
    eventually(lambda: held(hosts) == [0, 0])


def test_a_switch_over_islands(controller):
    with client_of(controller) as client:
        router = client.virtual_devices("island0").add_slice(1)
        homes = [client.virtual_devices(f"island{n}").add_slice(1) for n in (1, 0)]
        shapes = jax.ShapeDtypeStruct((4, 4), jnp.float32)
        switch = rt.Switch(lambda w, x: x @ w, homes, shapes, 4)
        trees = [homes[e % 2].put(np.eye(4, dtype=np.float32) * e) for e in range(4)]
        rows, counts = np.ones((9, 4), np.float32), np.array([0, 4, 5, 0])
        loss = rt.computation(lambda y: jnp.sum(y), router)
        both = rt.value_and_grad(lambda b, counts, rows: loss(switch(counts, rows, b)))
        value, gradient = both(rt.Branches(trees), counts, rows)
        assert float(value.result()) == 4 * (4 * 1 + 5 * 2)
        assert {e: float(g[0, 0]) for e, g in gradient.result().items()} == {1: 4, 2: 5}
    left(controller)


def test_errors_of_islands_and_their_loss(controller, hosts):
    client = client_of(controller)
    here, there = (client.virtual_devices(f"island{n}").add_slice(1) for n in range(2))

    def refuse(x):
        def look(x):
            raise ZeroDivisionError("on purpose")

        return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    node, add = rt.computation(refuse, here, name="node"), rt.computation(lambda x: x + 1, there)
    with pytest.raises(rt.NodeError, match="on purpose") as caught:
        node(jnp.ones(3)).result()
    assert (caught.value.node, caught.value.island) == ("node", "island0")
    client.names["kept"] = there.put(np.ones(3))
    client.names["lost"] = here.put(np.ones(3))
    hosts.kill("island0")
    eventually(lambda: client.islands["island0"].lost)
    with pytest.raises(rt.IslandLost):
        client.names["lost"].result()
    assert add(client.names["kept"]).result().tolist() == [2, 2, 2]
    client.close()
    del caught
    gc.collect()
    left(controller)


def test_the_documented_example(controller, root, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BYWAYS_STATE", str(tmp_path))
    address = controller.listen()
    write_cluster(rt.ClusterFile("default", address, TOKEN, os.getpid(), this_host(), "", "", 0.0))
    page = (root / "docs" / "cluster.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(code, {"__name__": "__main__"})
    assert capsys.readouterr().out == "32.0\n128.0\n"
    left(controller)
