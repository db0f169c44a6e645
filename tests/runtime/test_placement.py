"""Nodes over several devices, slices and islands, and what is copied between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import pair, shard_shapes, stands_on

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("devices", [2, 4])
def test_spmd_nodes(system, devices):
    part = system.virtual_devices().add_slice({"data": devices})
    specs = {"in_specs": (P("data"), None), "out_specs": (P("data"), P())}

    def f(x, w):
        y = x @ w
        return y, y.sum()

    node = rt.computation(f, part, **specs)
    x, w = jnp.arange(32.0).reshape(8, 4), jnp.ones((4, 4))
    y, total = node(x, w)
    assert y.array().sharding.is_equivalent_to(part.sharding(P("data")), 2)
    assert shard_shapes(y.array()) == {(8 // devices, 4)}
    np.testing.assert_array_equal(y.result(), x @ w)
    assert float(total.result()) == float((x @ w).sum())
    # From one to the other without a copy, then gathered on one device.
    one = system.virtual_devices().add_slice(1)
    end = rt.computation(lambda y: y.sum(), one)
    program = rt.program(lambda x, w: end(node(node(x, w)[0], w)[0]))
    assert float(program(x, w).result()) == float((x @ w @ w).sum())


def test_a_mesh_of_two_axes(system):
    part = system.virtual_devices().add_slice({"data": 2, "model": 2})
    node = rt.computation(
        lambda x, w: x @ w,
        part,
        in_specs=(P("data", None), P(None, "model")),
        out_specs=P("data", "model"),
    )
    x, w = jnp.arange(16.0).reshape(4, 4), jnp.arange(16.0).reshape(4, 4)
    out = node(x, w)
    assert shard_shapes(out.array()) == {(2, 2)}
    np.testing.assert_array_equal(out.result(), x @ w)


def test_a_slices_mesh_inside_a_computation(system):
    part = system.virtual_devices().add_slice({"data": 2, "model": 2})
    rows = P("data", "model")

    def norms(x):
        return jax.lax.psum((x**2).sum(axis=1, keepdims=True), "model")

    def f(x):
        x = jax.lax.with_sharding_constraint(x, NamedSharding(part.mesh, rows))
        spread = {"mesh": part.mesh, "in_specs": rows, "out_specs": P("data")}
        return jax.shard_map(norms, **spread)(x)

    node = rt.computation(f, part, in_specs=(rows,), out_specs=P("data"))
    x = jnp.arange(16.0).reshape(4, 4)
    out = node(x)
    np.testing.assert_array_equal(out.result(), (x**2).sum(axis=1, keepdims=True))
    assert shard_shapes(out.array()) == {(2, 1)}


def test_a_loop_over_several_devices_takes_what_is_spread(system):
    part = system.virtual_devices().add_slice({"data": 2})
    grow = rt.computation(lambda x: 2 * x, part, in_specs=(P("data"),), out_specs=P("data"))
    below = rt.computation(lambda x: x.sum() < 100, part)
    first = rt.computation(lambda x: x + 1, part, in_specs=(P("data"),), out_specs=P("data"))
    whole = rt.computation(lambda x: x, part)
    body = rt.computation(lambda x: whole.fn(2 * x), part)
    loop = rt.program(lambda x: grow(rt.while_loop(below, body, first(x), bound=10)))
    # 4·1 = 4, 8, 16, 32, 64, 128 ends it; then doubled.
    np.testing.assert_array_equal(loop(jnp.zeros(4)).result(), np.full(4, 64.0))


def test_copies_for_a_node_go_in_one_batch(system):
    devices = system.virtual_devices()
    a, b = devices.add_slice(1), devices.add_slice(1)
    assert a.devices != b.devices
    many = rt.computation(lambda x: [x + n for n in range(5)], a, name="many")
    join = rt.computation(lambda xs, x: sum(xs) + x, b, name="join")
    program = rt.program(lambda x: join(many(x), x))
    steps = [step for part in program.compile(X).parts for step in part.steps]
    assert [step.transfer for step in steps] == [False, True, False]
    assert len(steps[1].inputs) == 6  # five results, and the argument that went to `a` first
    np.testing.assert_array_equal(program(X).result(), 6 * X + 10)
    # A second reader on the same slice takes the copies that are there.
    twice = rt.program(lambda x: (lambda y: (join(y, x), join(y, x)))(many(x)))
    steps = [step for part in twice.compile(X).parts for step in part.steps]
    assert [step.transfer for step in steps].count(True) == 1


def test_two_islands():
    with pair() as system:
        here, there = (system.virtual_devices(name).add_slice(2) for name in ("here", "there"))
        spread = {"in_specs": (P("device"),), "out_specs": P("device")}
        first = rt.computation(lambda x: x + 1, here, name="first", **spread)
        second = rt.computation(lambda x: 2 * x, there, name="second", **spread)
        program = rt.program(lambda x: first(second(first(x))))
        plan = program.compile(jnp.zeros(4))
        assert [part.island.name for part in plan.parts] == ["here", "there", "here"]
        out = program(jnp.zeros(4))
        np.testing.assert_array_equal(out.result(), np.full(4, 3.0))
        assert stands_on(out.array(), here)
        assert system.store.live("here") == 4 * 4
        assert system.store.live("there") == 0
    assert system.store.live() == 0


def test_arguments_from_anywhere(part):
    add = rt.computation(lambda x, y: x + y, part)
    x = jax.device_put(jnp.asarray(X), SingleDeviceSharding(jax.devices()[3]))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("d",))
    y = jax.device_put(jnp.asarray(X), NamedSharding(mesh, P("d")))
    out = add(x, y)
    np.testing.assert_array_equal(out.result(), 2 * X)
    assert stands_on(out.array(), part)
