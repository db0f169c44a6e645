"""Islands of several hosts: two processes each, of two devices each."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .ray_processes import a_ray_to_use, gone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Ray's own
]
X = np.arange(8, dtype=np.float32)


@pytest.fixture(scope="module")
def address():
    with a_ray_to_use(pytest.importorskip("ray")) as found:
        yield found


@pytest.fixture(scope="module")
def hosts(address):
    made = rt.RayIslands(2, devices=2, hosts_per_island=2, address=address, silence=3.0)
    with made:
        yield made
    assert gone([pid for pids in made.all_pids.values() for pid in pids])


@pytest.fixture
def system(hosts):
    with rt.RayRuntime(hosts=hosts) as made:
        yield made


@pytest.fixture
def wide(system):
    return system.virtual_devices("island0").add_slice({"d": 4})


@pytest.fixture
def there(system):
    return system.virtual_devices("island1").add_slice({"d": 4})


def summing(part, name="summing"):
    return rt.computation(
        lambda x: (x.sum(), 2 * x),
        part,
        in_specs=(P("d"),),
        out_specs=(P(), P("d")),
        name=name,
    )


def test_nodes_over_hosts_have_their_collectives(hosts, wide):
    assert [device.host for device in hosts.devices["island0"]] == [0, 0, 1, 1]
    assert len(set(hosts.all_pids["island0"] + hosts.all_pids["island1"])) == 4
    node = summing(wide)
    total, twice = node(X)  # 0 + … + 7
    assert float(total.result()) == 28
    np.testing.assert_array_equal(twice.result(), 2 * X)
    for _ in range(20):
        total, twice = node(twice)
    assert float(total.result()) == 28 * 2**20  # of what was doubled 20 times


def test_slices_on_one_host_and_on_the_other(system):
    parts = [system.virtual_devices("island0").add_slice(1) for _ in range(4)]
    adds = [rt.computation(lambda x, n=n: 10 * x + n, p, name=f"{n}") for n, p in enumerate(parts)]

    @rt.program
    def chain(x):  # from host to host to host
        for n in (0, 3, 1, 2):
            x = adds[n](x)
        return x

    np.testing.assert_array_equal(chain(X).result(), 10_000 * X + 312)
    both = system.virtual_devices("island0").add_slice({"d": 2})
    halves = summing(both)
    total, twice = rt.program(lambda x: halves(adds[3](adds[0](x))))(X)
    np.testing.assert_array_equal(twice.result(), 2 * (100 * X + 3))
    assert float(total.result()) == (100 * X + 3).sum()


def test_arrays_go_between_islands_of_several_hosts(system, wide, there):
    one = system.virtual_devices("island1").add_slice(1)
    near, far = summing(wide, "near"), summing(there, "far")
    end = rt.computation(lambda x: x + 1, one, name="end")

    @rt.program
    def run(x):
        _, y = near(x)
        total, z = far(y)
        return total, near(z)[1], end(z)

    for _ in range(3):
        total, back, last = run(X)
        assert float(total.result()) == 56
        np.testing.assert_array_equal(back.result(), 8 * X)
        np.testing.assert_array_equal(last.result(), 4 * X + 1)
    _, spread = near(X)
    np.testing.assert_array_equal(far(spread)[1].result(), 4 * X)  # an argument in pieces


def test_keys_puts_and_gradients(system, wide, there):
    split = rt.computation(lambda k: jax.random.split(k, 4), wide, out_specs=P("d"), name="split")
    draw = rt.computation(
        lambda keys: jax.vmap(jax.random.normal)(keys), there, in_specs=(P("d"),), name="draw"
    )
    keys = split(jax.random.key(3))
    wanted = jax.random.split(jax.random.key(3), 4)
    np.testing.assert_array_equal(jax.random.key_data(keys.result()), jax.random.key_data(wanted))
    np.testing.assert_allclose(draw(keys).result(), jax.vmap(jax.random.normal)(wanted), rtol=1e-6)
    kept = wide.put({"w": np.full(8, 3.0, np.float32)})
    times = rt.computation(
        lambda w, x: (w * x).sum(), wide, in_specs=(P("d"), P("d")), name="times"
    )
    value, gradient = rt.value_and_grad(lambda x, w: times(w, x))(X, kept["w"])
    assert float(value.result()) == 84
    np.testing.assert_array_equal(gradient.result(), np.full(8, 3.0))


def test_a_switch_over_hosts(system):
    parts = [system.virtual_devices("island0").add_slice(1) for _ in range(4)]
    shapes = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    switch = rt.Switch(lambda w, x: jnp.tanh(x @ w), parts, shapes, 4)
    rows = jax.random.normal(jax.random.key(0), (32, 8))
    weights = rt.Branches([jnp.eye(8) * (e + 1) for e in range(4)])
    counts = jnp.array([12, 0, 0, 20])
    scale = jnp.repeat(jnp.array([1.0, 4.0]), jnp.array([12, 20]))[:, None]
    found = switch(counts, rows, weights).result()
    np.testing.assert_allclose(found, jnp.tanh(rows * scale), rtol=1e-5)


def test_nothing_is_kept(hosts, system, wide, there):
    near, far = summing(wide, "near"), summing(there, "far")
    for _ in range(3):
        far(near(X)[1])[0].result()
    end = time.monotonic() + 5
    while any(hosts.held().values()) and time.monotonic() < end:
        time.sleep(0.1)
    assert set(hosts.held().values()) == {0}


def test_a_node_that_fails_on_one_host_alone_loses_the_island(system, wide):
    def refuse(x):
        def look(x):
            if (np.asarray(x) > 5).any():
                raise ValueError("this part fails on purpose")
            return x

        def part(x):
            ok = jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
            return jax.lax.psum(ok.sum(), "d")  # the other parts wait here

        mesh = jax.sharding.AbstractMesh((4,), ("d",))
        return jax.shard_map(part, mesh=mesh, in_specs=P("d"), out_specs=P())(x)

    fails = rt.computation(refuse, wide, in_specs=(P("d"),), name="fails")
    assert float(fails(X / 2).result()) == 14
    began = time.monotonic()
    with pytest.raises(rt.NodeError, match="on purpose"):
        fails(X).result()
    assert time.monotonic() - began < 10
    assert system.islands["island0"].lost
    with pytest.raises(rt.IslandLost, match="failed on 1 of them alone, so the others wait"):
        system.hosts.outboxes["island0"].check()
    system.restart_island("island0")
    assert float(summing(wide)(X)[0].result()) == 28


def test_the_death_of_one_host_is_the_islands(hosts, system, wide, there):
    near, far = summing(wide, "near"), summing(there, "far")
    program = rt.program(lambda x: far(near(x)[1])[1])
    np.testing.assert_array_equal(program(X).result(), 4 * X)
    pids = hosts.all_pids["island0"]
    os.kill(pids[1], signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(rt.IslandLost, match="'island0' is lost"):
        again_and_again(program, 10)
    assert time.monotonic() - began < 3
    assert gone(pids)
    assert float(far(X)[0].result()) == 28
    system.restart_island("island0")
    np.testing.assert_array_equal(program(X).result(), 4 * X)


def again_and_again(program, seconds):
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        program(X).result()
