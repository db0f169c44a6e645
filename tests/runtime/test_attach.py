"""Clients of a controller: programs of every kind run, come back, and leave nothing."""

import asyncio
import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from . import attached
from .attached import client_of, eventually, left

controller, client, part = attached.controller, attached.client, attached.part


def test_a_program_runs_there_and_gives_futures_at_once(client, part):
    double = rt.computation(lambda x: 2 * x, part, name="double")
    total = rt.computation(lambda x, y: jnp.sum(x * y), part, name="total")

    @rt.program
    def run(x):
        y = double(x["x"])
        return {"loss": total(y, double(y)), "y": (y,)}

    out = run({"x": jnp.ones(4)})
    assert isinstance(out["loss"], rt.Value)
    assert (out["y"][0].shape, out["y"][0].dtype) == ((4,), np.float32)
    assert float(out["loss"].result()) == 32
    np.testing.assert_array_equal(np.asarray(out["y"][0]), np.full(4, 2.0))
    again = run({"x": out["y"][0]})  # which stays there
    assert float(jax.block_until_ready(again["loss"]).result()) == 128
    assert again["loss"].done()
    assert rt.fetch(again)["y"][0].tolist() == [4, 4, 4, 4]
    assert "double(arg[0]['x'])" in str(run.trace({"x": jnp.ones(4)}))

    async def wait():
        return await again["y"][0]

    assert asyncio.run(wait()).tolist() == [4, 4, 4, 4]


def test_arguments_of_all_kinds(client, part):
    add = rt.computation(lambda x, y: x + y, part)
    assert int(add(1, 2).result()) == 3
    assert add(np.float64(1.5), True).result().dtype == np.float32
    assert float(add(part.put(2.0), jnp.float32(1)).result()) == 3
    assert add(part.put(np.ones(2, "int8")), jnp.ones(2, "bfloat16")).result().dtype == "bfloat16"
    draw = rt.computation(
        lambda key: (jax.random.normal(key, (2,)), jax.random.split(key)[0]), part
    )
    numbers, key = draw(jax.random.key(3))
    np.testing.assert_allclose(numbers.result(), jax.random.normal(jax.random.key(3), (2,)), 1e-5)
    assert jnp.issubdtype(key.result().dtype, jax.dtypes.prng_key)
    draw(key)[0].result()


def test_gradients_loops_and_gates(client, part):
    loss = rt.computation(lambda w, x: jnp.sum((x @ w) ** 2), part, name="loss")
    w, x = jnp.arange(6.0).reshape(3, 2), jnp.ones((4, 3))
    both = rt.value_and_grad(lambda w, x: loss(w, x))
    expected = jax.value_and_grad(lambda w: jnp.sum((x @ w) ** 2))(w)
    for _ in range(2):
        np.testing.assert_allclose(both(w, x)[0].result(), expected[0], 1e-5)
        np.testing.assert_allclose(both(w, x)[1].result(), expected[1], 1e-5)
    both(w, jnp.ones((5, 3)))[0].result()  # other shapes, when much is traced

    small = rt.computation(lambda c: c["n"] < 10, part, name="small")
    more = rt.computation(lambda c: {"n": c["n"] * 2}, part, name="more")
    loop = rt.program(lambda c: rt.while_loop(small, more, c, bound=9))
    assert int(loop({"n": jnp.int32(3)})["n"].result()) == 12

    gate = rt.Gate(lambda rows, w: rows @ w, part, name="gate")
    gated = rt.program(lambda n, rows, w: gate(n, rows, w))
    out = gated(jnp.int32(2), jnp.ones((9, 3)), w).result()
    np.testing.assert_allclose(out, np.r_[np.ones((2, 3)) @ w, np.zeros((7, 2))])


def test_a_switch_wakes_branches_there_and_its_gradient_is_sparse(client, part):
    shapes = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    switch = rt.Switch(lambda w, x: jnp.tanh(x @ w), part, shapes, 4)
    loss = rt.computation(lambda y: jnp.sum(y**2), part, name="loss")
    trees = [np.eye(8, dtype=np.float32) * (e + 1) for e in range(4)]
    banks = [rt.Branches(trees), rt.Branches([part.put(tree) for tree in trees])]
    rows = np.asarray(jax.random.normal(jax.random.key(0), (32, 8)))
    counts = np.array([20, 0, 12, 0])
    both = rt.value_and_grad(lambda w, counts, rows: loss(switch(counts, rows, w)))
    for bank in banks:
        out = switch(counts, rows, bank).result()
        expected = np.r_[np.tanh(rows[:20]), np.tanh(3 * rows[20:])]
        np.testing.assert_allclose(out, expected, 1e-4, 1e-5)
        gradient = both(bank, counts, rows)[1].result()
        assert sorted(gradient) == [0, 2]
        assert gradient[2].shape == (8, 8)
    # Another branch's parameters are seen, and the others are not sent again.
    banks[1].trees[0] = part.put(trees[3])
    out = switch(counts, rows, banks[1]).result()
    np.testing.assert_allclose(out[:20], np.tanh(4 * rows[:20]), 1e-4, 1e-5)


def test_a_pipeline_over_two_islands_that_a_client_takes(controller):
    with client_of(controller) as client:
        parts = [client.virtual_devices().add_slice(1) for _ in range(2)]
        step = rt.pipeline(
            [lambda w, x: jnp.tanh(x * w)] * 2,
            parts,
            lambda y, t: jnp.mean((y - t) ** 2),
            micro_batches=2,
        )
        ws, x, t = [jnp.float32(0.5), jnp.float32(2.0)], jnp.arange(4.0), jnp.ones(4)

        def whole(ws):
            return jnp.mean((jnp.tanh(jnp.tanh(x * ws[0]) * ws[1]) - t) ** 2)

        loss, grads = step(ws, x, t)
        expected = jax.value_and_grad(whole)(ws)
        np.testing.assert_allclose(loss.result(), expected[0], 1e-5)
        np.testing.assert_allclose(rt.fetch(grads), expected[1], 1e-5)
    left(controller)


def test_shards_over_a_mesh(client):
    from jax.sharding import PartitionSpec as P

    wide = client.virtual_devices().add_slice({"rows": 2})
    specs = {"in_specs": (P("rows"),), "out_specs": P()}

    def summed(x):
        part = lambda x: jax.lax.psum(x.sum(), "rows")  # noqa: E731
        return jax.shard_map(part, mesh=wide.mesh, in_specs=P("rows"), out_specs=P())(x)

    total = rt.computation(summed, wide, **specs)
    assert float(total(jnp.arange(8.0)).result()) == 28


def test_compiling_ahead(client, part, controller):
    half = rt.computation(lambda x: x / 2, part)
    run = rt.program(lambda x: half(half(x)))
    run.compile(jnp.ones(3))
    counted = _compilations()
    assert run(jnp.ones(3)).result().tolist() == [0.25] * 3
    assert not counted


def test_named_values_survive_and_others_are_freed(controller, system):
    with client_of(controller) as first:
        part = first.virtual_devices().add_slice(1)
        make = rt.computation(lambda x: {"w": x * 2, "n": (x[0], x)}, part)
        first.names["weights"] = make(jnp.ones(100))
        first.names["put"] = {"a": part.put(np.arange(3)), "b": 7}
        unnamed = make(jnp.ones(50))
        jax.block_until_ready(unnamed)
    left(controller)
    with pytest.raises(rt.ValueReleased, match="has left: attach again"):
        unnamed["w"].result()
    assert system.store.live() == 804  # of weights alone: what was put is in no account
    with client_of(controller) as second:
        assert sorted(second.names) == ["put", "weights"]
        assert "weights" in second.names
        assert len(second.names) == 2
        weights = second.names["weights"]
        assert rt.fetch(weights["n"])[0] == 1
        assert jax.tree.map(int, rt.fetch(second.names["put"]["b"])) == 7
        part = second.virtual_devices().add_slice(1)
        use = rt.computation(lambda w: jnp.sum(w["w"]), part)
        assert float(use(weights).result()) == 200
        second.names.replace("weights", use(weights))
        assert weights["w"].result().shape == (100,)  # who holds it holds it
        assert float(second.names["weights"].result()) == 200
        del weights, second.names["weights"]
        second.names["put"].clear()
        gc.collect()
        eventually(lambda: system.store.live() == 0)
        del second.names["put"]
    left(controller)


def test_a_returning_client_compiles_nothing(controller):
    def session(client):
        part = client.virtual_devices().add_slice(1)
        scale = rt.computation(lambda x: x * 3, part, name="scale")
        return rt.program(lambda x: scale(scale(x)), name="step")

    with client_of(controller) as first:
        step = session(first)
        first.programs["step"] = step
        assert step(jnp.ones(2)).result().tolist() == [9, 9]
        assert list(first.programs) == ["step"]
    left(controller)
    counted = _compilations()
    with client_of(controller) as second:  # the same code
        assert session(second)(jnp.ones(2)).result().tolist() == [9, 9]
    left(controller)
    with client_of(controller) as third:  # the name
        step = third.programs["step"]
        assert step(np.ones(2, np.float32)).result().tolist() == [9, 9]
        assert step.name == "step"
        assert len(controller.programs) == 1
        assert not counted
        # It is like one's own: part of others, differentiated, given another name.
        both = rt.value_and_grad(lambda x: total(step(x)))
        part = third.virtual_devices().add_slice(1)
        total = rt.computation(jnp.sum, part)
        assert both(jnp.ones(2))[1].result().tolist() == [9, 9]
        third.programs.replace("step", step)
        del third.programs["step"]
        assert not third.programs
    left(controller)


def test_two_clients_have_their_own_slices_and_share_by_their_weights(controller, system):
    with client_of(controller, name="a", weight=3.0) as a, client_of(controller, name="b") as b:
        parts = [c.virtual_devices().add_slice(1) for c in (a, b)]
        assert parts[0].number != parts[1].number
        assert (system.clients["a"].weight, system.clients["b"].weight) == (3.0, 1.0)
        outs = [rt.computation(lambda x: x + 1, part)(jnp.zeros(5)) for part in parts]
        assert [out.result().tolist() for out in outs] == [[1.0] * 5] * 2
        (island,) = {part.island.name for part in parts}
        assert system.store.holders(island) == {"a": 20, "b": 20}
        with pytest.raises(rt.ValueReleased, match=r"is of client 'a'.*give it a name"):
            rt.computation(lambda x: x, parts[1])(outs[0])
        status = a.status()
        kept = status["islands"][0]
        assert kept["bytes"] == 40
        assert kept["held"] in (None, 40 + 2 * 20)  # of processes also what they were given
        assert [(c["name"], c["calls"], c["bytes"]) for c in status["clients"]] == [
            ("a", 1, 20),
            ("b", 1, 20),
        ]
    left(controller)


def test_a_lost_island_is_told_and_comes_back(controller, system):
    with client_of(controller) as client:
        part = client.virtual_devices().add_slice(1)
        add = rt.computation(lambda x: x + 1, part)
        out, put = add(jnp.zeros(3)), part.put(np.ones(3))
        out.result()
        system.lose_island(part.island.name)
        assert client.islands[part.island.name].lost
        assert client.status()["islands"][0]["lost"]
        for gone in (out, add(out), add(1.0)):
            with pytest.raises(rt.IslandLost):
                gone.result()
        with pytest.raises(rt.IslandLost):
            client.names["out"] = out
        client.restart_island(part.island.name)
        assert add(jnp.zeros(3)).result().tolist() == [1, 1, 1]
        del put
        with pytest.raises(rt.SliceError, match="no island 'nowhere'"):
            client.restart_island("nowhere")
    left(controller)


def test_a_result_waits_for_no_later_call(client, part, controller):
    import threading

    go = threading.Event()
    early = rt.computation(lambda x: x + 1, part)(jnp.zeros(3))
    (session,) = controller.sessions
    client.status()  # answered when the call is done
    session._enqueue(go.wait, [20])  # as a call that takes long
    late = part.put(np.ones(3))
    assert early.result(10.0).tolist() == [1, 1, 1]
    assert not late.done()
    go.set()
    assert late.result().tolist() == [1, 1, 1]
    assert late.done()


def test_a_client_that_dies_is_noticed(controller, system):
    client = client_of(controller)
    part = client.virtual_devices().add_slice(1)
    out = rt.computation(lambda x: x + 1, part)(jnp.zeros(5))
    out.result()
    client.exchange.line.close()  # as the kernel does for a killed process
    left(controller)
    assert system.store.live() == 0
    assert not controller.slices or len(controller.slices) == 1
    with pytest.raises(rt.ControllerGone):
        out.result()


def test_coming_and_going_leaves_nothing(controller, system):
    import threading

    def session(n):
        with client_of(controller) as client:
            part = client.virtual_devices().add_slice(1)
            more = n % 3
            work = rt.computation(lambda x: x + more, part)
            x = part.put(np.ones(10, np.float32))
            for _ in range(3):
                x = work(x)
            x.result()
        left(controller)
        return (
            system.store.live(),
            threading.active_count(),
            len(controller.programs),
            len(controller.slices),
            len(system.clients),
            len(jax.live_arrays()),
        )

    for n in range(3):
        session(n)
    before = session(0)
    for n in range(1, 12):
        after = session(n)
    assert after[0] == 0
    assert after[2:5] == before[2:5]
    eventually(lambda: threading.active_count() <= before[1])
    eventually(lambda: len(jax.live_arrays()) <= before[5])


def _compilations():
    """A list that grows with all that is compiled from now on, but for what brings NumPy here."""
    counted = []

    def note(event, *_, fun_name="", **__):
        if event.endswith("backend_compile_duration") and fun_name != "jit(stage)":
            counted.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(note)
    return counted
