"""Programs on islands of handles, messages and mail, whose hosts are in this process."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import ray_backend, ray_outbox
from byways.runtime.errors import IslandLost
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from . import near_islands
from .near_islands import kept
from .peers import until
from .ray_in_process import NearIslands

hosts, system = near_islands.hosts, near_islands.system
here, there = near_islands.here, near_islands.there


def test_programs_values_and_gradients_go_over_two_islands(system, here, there):
    double = rt.computation(lambda x: 2 * x, here, name="double")
    total = rt.computation(lambda x, y: jnp.sum(x * y), there, name="total")

    @rt.program
    def run(x):
        y = double(x)
        return total(y, double(y)), y

    loss, y = run(jnp.ones(4))  # 2 · 4, four times
    assert float(loss.result()) == 32
    np.testing.assert_array_equal(y.result(), np.full(4, 2.0))
    assert isinstance(y.result(), jax.Array)
    _, gradient = rt.value_and_grad(lambda x: run(x)[0])(jnp.ones(4))  # of 8 x²
    np.testing.assert_array_equal(np.asarray(gradient), np.full(4, 16.0))


def test_a_turn_is_one_message_and_the_island_forgets(hosts, system, here):
    add = rt.computation(lambda x: x + 1, here, name="add")

    @rt.program
    def chain(x):
        for _ in range(100):
            x = add(x)
        return x

    before, outbox = kept(hosts), hosts.outboxes["island0"]
    x = chain(jnp.zeros(3))
    x.result()
    messages = outbox.messages
    y = chain(x)
    assert outbox.messages == messages + 1
    np.testing.assert_array_equal(y.result(), np.full(3, 200.0))
    del x, y
    assert kept(hosts) == before


def test_a_step_over_two_islands_is_a_message_to_each(hosts, system, here, there, monkeypatch):
    monkeypatch.setattr(ray_outbox, "SOON", 60.0)  # however slow this machine is
    monkeypatch.setattr(ray_outbox, "LATER", 60.0)
    first = rt.computation(lambda p, x: p * x, here, name="first")
    second = rt.computation(lambda p, x: p + x, there, name="second")
    updates = [rt.computation(lambda p, a, b: p + a + b, part, name="u") for part in (here, there)]

    @rt.program
    def step(params, x):
        mine, theirs = first(params[0], x), second(params[1], x)
        return [update(p, mine, theirs) for update, p in zip(updates, params, strict=True)]

    params = [here.put(np.ones(3)), there.put(np.ones(3))]
    x = np.full(3, 2.0)
    params = step(params, x)  # 1 + 1·2 + (1+2) = 6, twice
    boxes = hosts.outboxes.values()
    kept(hosts)
    before = [box.messages for box in boxes]
    found = step(params, x)  # 6 + 6·2 + (6+2) = 26
    assert [box.messages for box in boxes] == [one + 1 for one in before]
    for one in found:
        np.testing.assert_array_equal(one.result(), np.full(3, 26.0))


def test_only_the_smallest_results_come_with_the_news(hosts, system, here, monkeypatch):
    monkeypatch.setattr(ray_backend, "TOLD", 100)
    made = rt.computation(lambda x: [jnp.zeros(20), x, x + 1, jnp.zeros(40)], here, name="several")(
        1.0
    )
    monkeypatch.setattr(type(hosts.outboxes["island0"]), "fetch", None)
    assert [float(one.result()) for one in made[1:3]] == [1, 2]  # 4 bytes each
    np.testing.assert_array_equal(made[0].result(), np.zeros(20))  # 80
    with pytest.raises(TypeError):  # it has to be fetched
        made[3].result()


def test_an_argument_that_is_a_future_stays_on_its_island(hosts, system, here):
    add = rt.computation(lambda x: x + 1, here, name="add")
    x = add(np.zeros(1000, np.float32))
    outbox = hosts.outboxes["island0"]
    sent = outbox.sent
    add(x).result()
    assert outbox.sent - sent <= 2  # the node, and what was freed before it


def test_what_a_program_closes_over_stays_on_its_island(hosts, system, here, monkeypatch):
    (there,) = here.put([np.ones(100_000, np.float32)])
    total = rt.computation(lambda x, y: (x * y).sum(), here, name="total")
    monkeypatch.setattr(type(hosts.outboxes["island0"]), "fetch", None)
    held = rt.program(lambda y: total(there, y))
    assert [float(held(2.0).result()) for _ in range(2)] == [200_000, 200_000]


def test_small_results_come_with_the_news(hosts, system, here, monkeypatch):
    add = rt.computation(lambda x: x + 1, here, name="add")
    monkeypatch.setattr(type(hosts.outboxes["island0"]), "fetch", None)
    assert float(add(1.0).result()) == 2
    with pytest.raises(TypeError):  # it has to be fetched
        add(np.zeros(100_000, np.float32)).result()


class Untold:
    """An array of which the island never says anything."""

    def __init__(self, number):
        self.number, self.op = -number, self


def test_nothing_is_kept_of_arrays_that_are_never_told(hosts):
    outbox = hosts.outboxes["island0"]
    kept = [Untold(number) for number in range(1, 11)]
    for array in kept:
        outbox.tell(array)
    for number in range(11, 5000):
        outbox.tell(Untold(number))
    assert len(outbox._telling) <= 2000
    assert all(outbox._telling[array.number]() is array for array in kept)


def test_what_is_waited_for_stays_on_its_island(hosts, system, here, monkeypatch):
    add = rt.computation(lambda x: x + 1, here, name="add")
    monkeypatch.setattr(type(hosts.outboxes["island0"]), "fetch", None)
    jax.block_until_ready(add(np.zeros(100_000, np.float32)))


def test_a_failing_node_poisons_what_depends_on_it_by_name(system, here, there):
    def refuse(x):
        def look(x):
            if (x > 0).any():
                raise ValueError("this node fails on purpose")
            return x

        return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    pytest.importorskip("ray")  # what calls back is pickled by its cloudpickle
    fails = rt.computation(refuse, here, name="fails")
    add = rt.computation(lambda x: x + 1, there, name="add")

    @rt.program(name="both")
    def run(x):
        return add(fails(x)), add(x)

    ill, well = run(jnp.ones(2))
    np.testing.assert_array_equal(well.result(), np.full(2, 2.0))
    with pytest.raises(rt.NodeError, match="fails on purpose") as caught:
        ill.result()
    assert caught.value.node == "fails"
    assert caught.value.program == "both"
    assert caught.value.island == "island0"
    ok, _ = run(-jnp.ones(2))
    np.testing.assert_array_equal(ok.result(), np.zeros(2))


def test_the_blame_is_the_first_islands_although_the_other_is_heard_sooner(
    hosts, system, here, there
):
    def refuse(x):
        def look(x):
            raise ValueError("this node fails on purpose")

        return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    pytest.importorskip("ray")  # what calls back is pickled by its cloudpickle
    fails = rt.computation(refuse, here, name="fails")
    add = rt.computation(lambda x, y: x + y, there, name="add")
    run = rt.program(lambda x: add(fails(x), x))
    run.compile(jnp.ones(2))
    line, other = hosts.lines["island0"], hosts.outboxes["island1"]
    ask, before = line.ask, len(other.failed)

    def late(what, *given):
        found = ask(what, *given)
        if what == "news" and found[1]:
            until(lambda: len(other.failed) > before, 20.0)
            time.sleep(0.1)  # in which who waits is told, if it is to be
        return found

    line.ask = late
    try:
        with pytest.raises(rt.NodeError) as caught:
            run(jnp.ones(2)).result()
    finally:
        line.ask = ask
    assert caught.value.node == "fails"


def test_a_node_that_cannot_travel_is_told_of(system, here):
    import threading

    lock = threading.Lock()

    def waits(x):
        def look(x):
            with lock:
                return x

        return jax.pure_callback(look, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    pytest.importorskip("ray")
    with pytest.raises(rt.ProgramError, match="cannot go to another process"):
        rt.computation(waits, here, name="waits")(jnp.ones(2))


def test_donation_keys_and_meshes(hosts, system, here):
    before = kept(hosts)
    eat = rt.computation(lambda x: x + 1, here, name="eat", donate=(0,))
    make = rt.computation(lambda: jnp.zeros(4), here, name="make")
    x = make()
    y = eat(x)
    np.testing.assert_array_equal(y.result(), np.ones(4))
    with pytest.raises(rt.ValueReleased):
        x.result()
    split = rt.computation(jax.random.split, here, name="split")
    keys = split(jax.random.key(3)).result()
    wanted = jax.random.split(jax.random.key(3))
    np.testing.assert_array_equal(jax.random.key_data(keys), jax.random.key_data(wanted))
    wide = system.virtual_devices("island1").add_slice(2)
    spread = rt.computation(
        lambda x: (x.sum(), 2 * x), wide, in_specs=P("device"), out_specs=(P(), P("device"))
    )
    gather = rt.computation(lambda x: x[::2], here, name="gather")

    @rt.program
    def over(x):
        total, twice = spread(x)
        return total, gather(twice)

    total, some = over(jnp.arange(8.0))
    assert float(total.result()) == 28
    np.testing.assert_array_equal(some.result(), [0, 4, 8, 12])
    del x, y, total, some, keys
    assert kept(hosts) == before


def test_switches_wake_nodes_and_give_sparse_gradients(system, here, there):
    shapes = jax.ShapeDtypeStruct((8, 8), jnp.float32)
    rows = jax.random.normal(jax.random.key(0), (32, 8))
    trees = [jnp.eye(8) * (e + 1) for e in range(4)]
    weights, counts = rt.Branches(trees), jnp.array([20, 0, 12, 0])
    switch = rt.Switch(lambda w, x: jnp.tanh(x @ w), [here, there], shapes, 4)
    wanted = jnp.tanh(rows * jnp.repeat(jnp.array([1.0, 3.0]), jnp.array([20, 12]))[:, None])
    np.testing.assert_allclose(switch(counts, rows, weights).result(), wanted, rtol=1e-5)
    loss = rt.computation(lambda y: jnp.sum(y**2), here, name="loss")
    both = rt.value_and_grad(lambda w, counts, rows: loss(switch(counts, rows, w)))
    value, gradient = both(weights, counts, rows)
    assert float(value.result()) == pytest.approx(float(jnp.sum(wanted**2)), rel=1e-5)
    found = gradient.result()
    assert sorted(found) == [0, 2]
    by_hand = jax.grad(lambda w: jnp.sum(jnp.tanh(rows[:20] @ w) ** 2))(trees[0])
    np.testing.assert_allclose(found[0], by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_pipelines(system, here, there, schedule):
    stage = lambda w, x: jnp.tanh(x @ w)  # noqa: E731
    loss = lambda y, target: jnp.mean((y - target) ** 2)  # noqa: E731
    run = rt.pipeline([stage, stage], [here, there], loss, micro_batches=4, schedule=schedule)
    weights = [jnp.eye(4), jnp.eye(4) / 2]
    x, target = jnp.ones((8, 4)), jnp.zeros((8, 4))
    value, gradients = run(weights, x, target)

    def whole(weights):
        return loss(stage(weights[1], stage(weights[0], x)), target)

    wanted, theirs = jax.value_and_grad(whole)(weights)
    assert float(value.result()) == pytest.approx(float(wanted), rel=1e-5)
    # Bit for bit as on one device of this process, in the same micro-batches.
    with rt.Runtime() as local:
        parts = [local.virtual_devices().add_slice(1)] * 2
        alone = rt.pipeline([stage, stage], parts, loss, micro_batches=4, schedule=schedule)
        _, same = rt.fetch(alone(weights, x, target))
    for mine, other, bits in zip(gradients, theirs, same, strict=True):
        np.testing.assert_allclose(mine.result(), other, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(mine.result(), bits)


def test_an_island_that_is_gone_poisons_and_nothing_hangs():
    hosts = NearIslands(2)
    system = hosts.runtime()
    here = system.virtual_devices("island0").add_slice(1)
    there = system.virtual_devices("island1").add_slice(1)
    make = rt.computation(lambda x: x + 1, here, name="make")
    use = rt.computation(lambda x: 2 * x, there, name="use")
    known = use(jnp.ones(2))
    known.result()
    # A message that never comes: the island dies before it sends what the other waits for.
    hosts.lines["island0"].send = lambda *_: None
    mine = make(jnp.ones(2))
    both = rt.program(lambda x: use(make(x)))(jnp.ones(2))
    assert not mine.done()
    hosts.kill("island0")
    began = time.monotonic()
    for value in (mine, both):
        with pytest.raises(IslandLost, match="island0"):
            value.result()
    assert time.monotonic() - began < 2
    np.testing.assert_array_equal(use(jnp.ones(2)).result(), [2, 2])
    np.testing.assert_array_equal(known.result(), [2, 2])
    with pytest.raises(IslandLost):
        make(jnp.ones(2))
    system.close()
    hosts.close()
