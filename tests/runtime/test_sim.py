"""Programs over a model of devices: what times come out, worked out by hand in the comments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

SCALAR = jax.ShapeDtypeStruct((), jnp.float32)
# A message costs 2 s + 1 s a host and travels 10 s; a node costs its host 100 s before it can run.
SLOW = rt.SimMachine(
    islands=2,
    hosts=4,
    devices=2,
    call_seconds=2.0,
    host_seconds=1.0,
    node_seconds=0.5,
    network_seconds=10.0,
    prepare_seconds=100.0,
    flops=1e3,
    memory_bytes=1e3,
    ici_bytes=4.0,
    ici_seconds=0.25,
    dcn_bytes=2.0,
)
# All but work and links is free.
FREE = rt.SimMachine(
    islands=2,
    hosts=4,
    devices=2,
    call_seconds=0.0,
    host_seconds=0.0,
    node_seconds=0.0,
    network_seconds=0.0,
    prepare_seconds=0.0,
    flops=1e3,
    ici_bytes=4.0,
    ici_seconds=0.0,
    dcn_bytes=2.0,
)


def plus(part, name="step", **more):
    return rt.computation(lambda x: x + 1, part, name=name, **more)


def chain(step, count):
    @rt.program
    def run(x):
        for _ in range(count):
            x = step(x)
        return x

    return run


def test_one_node_pays_its_message_its_preparation_and_the_way_back():
    system = rt.SimulatedRuntime(SLOW, {"step": 1000.0})
    part = system.virtual_devices("island0").add_slice(8)
    out = plus(part)(SCALAR)
    # The controller: 2 + 4 hosts + 0.5 for the node.
    assert system.now == 6.5
    assert not out.done() or system.now > 6.5
    assert out.result().shape == ()
    # 10 to get there, 100 to prepare, 1000 to run, 10 until the controller knows.
    assert system.now == 6.5 + 10 + 100 + 1000 + 10
    assert system.end == 6.5 + 10 + 100 + 1000
    assert system.totals.messages == 1
    assert system.totals.letters == 4


def test_hosts_prepare_nodes_while_devices_work():
    system = rt.SimulatedRuntime(SLOW, {"step": 1000.0})
    part = system.virtual_devices("island0").add_slice(2)
    chain(plus(part), 3)(SCALAR)
    # Two devices of one host: 2 + 1 + 0.5, 10 and 100 before the first; the others are prepared
    # meanwhile.
    assert system.end == 3.5 + 10 + 100 + 3 * 1000


def test_sequential_dispatch_pays_all_of_it_for_every_node():
    system = rt.SimulatedRuntime(SLOW, {"step": 1000.0}, sequential=True)
    part = system.virtual_devices("island0").add_slice(2)
    chain(plus(part), 3)(SCALAR).result()
    # One message for the three, and then 0.5, 10, 100, 1000 and 10 a node.
    assert system.now == 3 + 3 * (0.5 + 10 + 100 + 1000 + 10)


def test_messages_go_on_through_hosts():
    flat = SLOW.message(4)
    assert flat == (6.0, 10.0)
    relayed = rt.SimMachine(
        hosts=16, call_seconds=2.0, host_seconds=1.0, network_seconds=10.0, relay=4
    )
    # Four letters of its own; then each host sends four.
    assert relayed.message(16) == (6.0, 10.0 + 10.0 + 4.0)
    assert relayed.message(4) == (6.0, 10.0)


def test_the_window_of_gangs_holds_back_a_controller_that_is_far_ahead():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0})
    part = system.virtual_devices("island0").add_slice(8)
    chain(plus(part), 128)(SCALAR)
    # 128 nodes were sent when all but the last 16 had ended at the latest.
    assert system.now >= 128 - 16
    assert system.end == 128


def test_slices_overlap_where_they_share_devices_and_nowhere_else():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0, "all": 10.0})
    devices = system.virtual_devices("island0")
    left, right, whole = devices.add_slice(4), devices.add_slice(4), devices.add_slice(8)
    one, two, both = plus(left), plus(right), plus(whole, "all")

    @rt.program
    def run(x, y, z):
        return one(x), two(y), both(z), one(x)

    run(SCALAR, SCALAR, SCALAR)
    # Both halves at once, then the whole, then a half again.
    assert system.end == 1 + 10 + 1
    assert system.busy(left) == 2


def test_a_transfer_between_islands_takes_the_links_of_its_hosts():
    system = rt.SimulatedRuntime(FREE, {"here": 1.0, "there": 1.0})
    here = system.virtual_devices("island0").add_slice(8)
    there = system.virtual_devices("island1").add_slice(4)
    make = plus(here, "here", in_specs=P("device"), out_specs=P("device"))
    use = plus(there, "there", in_specs=P("device"), out_specs=P("device"))

    @rt.program
    def run(x):
        return use(make(x))

    run(jax.ShapeDtypeStruct((16,), jnp.float32)).result()
    # 64 bytes over two pairs of hosts (there are 4 here and 2 there) of 2 bytes a second.
    assert system.end == 1 + 64 / (2 * 2) + 1
    assert system.totals.dcn == 64
    assert system.totals.ici == 0


def test_links_go_to_who_is_ready_first():
    system = rt.SimulatedRuntime(FREE, {"long": 100.0, "short": 1.0, "there *": 0.0})
    one, two = (system.virtual_devices("island0").add_slice(1) for _ in range(2))
    there = system.virtual_devices("island1").add_slice(2)
    late, early = plus(one, "long"), plus(two, "short")
    first, second = plus(there, "there 1"), plus(there, "there 2")

    @rt.program
    def run(x, y):
        made = late(x), early(y)
        return first(made[0]), second(made[1])

    big = jax.ShapeDtypeStruct((2,), jnp.float32)
    with rt.recording(system) as recorder:
        jax.block_until_ready(run(big, big))
    moves = {span.name: span for span in recorder.spans if span.kind == "transfer"}
    # Sent second, ready at 1 and gone at 1 + 8/2 (and 2 s more to the second device of the slice).
    assert (moves["there 2 inputs"].began, moves["there 2 inputs"].ended) == (1, 1 + 4 + 2)
    assert moves["there 1 inputs"].began == 100


def test_arrays_of_numbers_travel_from_the_controller():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0})
    part = system.virtual_devices().add_slice(1)
    plus(part)(np.zeros(4, np.float32))
    assert system.end == 16 / 2 + 1


def test_within_a_slice_an_array_is_spread_anew_by_a_node():
    system = rt.SimulatedRuntime(FREE, {"*": 0.0})
    part = system.virtual_devices().add_slice(8)
    cut = plus(part, "cut", out_specs=P("device"))
    whole = plus(part, "whole")

    @rt.program
    def run(x):
        return whole(cut(x))

    run(jax.ShapeDtypeStruct((8,), jnp.float32))
    assert system.end == 32 / 4  # each device receives all 32 bytes at 4 a second


def test_costs_by_pattern_by_flops_by_shape_and_by_the_compiler():
    def by_rows(inputs):
        return rt.SimCost(flops=1e3 * inputs[0].shape[0])

    costs = {"exact": rt.SimCost(flops=4e3), "row *": by_rows, "*": "xla"}
    system = rt.SimulatedRuntime(FREE, costs)
    part = system.virtual_devices().add_slice(4)
    x = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    plus(part, "exact")(x)
    assert system.end == 1.0  # 4,000 FLOPs on 4 devices of 1,000 a second
    plus(part, "row 7")(x)
    assert system.end == 1.0 + 4.0
    product = rt.computation(lambda x: x @ x, part, name="product")
    product(x)
    assert system.end == pytest.approx(5.0 + 2 * 16**3 / 4e3)
    graph_cost = rt.program(lambda x: product(x)).cost(x)
    assert graph_cost.flops == 2 * 16**3


def test_a_pipeline_is_written_as_for_any_runtime():
    costs = {"forward *": 1.0, "backward *": 2.0, "*": 0.0}
    system = rt.SimulatedRuntime(FREE, costs, window=64)
    slices = [system.virtual_devices("island0").add_slice(2) for _ in range(2)]

    def stage(w, x):
        return jnp.tanh(x @ w)

    step = rt.pipeline([stage] * 2, slices, lambda y, t: jnp.mean((y - t) ** 2), micro_batches=4)
    w, x = (jax.ShapeDtypeStruct(shape, jnp.float16) for shape in ((4, 4), (8, 4)))
    loss, grads = step([w, w], x, x)
    assert loss.result().shape == ()
    assert grads[1].shape == (4, 4)
    # The last stage's forward is in its backward, so a micro-batch takes 1 + 2 + 2: the first
    # goes through, and three more follow at the pace of the first stage, 3 s; links take the rest.
    assert 1 + 2 + 2 + 3 * 3 - 1e-9 <= system.end <= 45


def test_gradients_and_donation():
    system = rt.SimulatedRuntime(FREE, {"*": 1.0})
    part = system.virtual_devices().add_slice(1)
    loss = rt.computation(lambda w: jnp.sum(w**2), part, name="loss")
    update = rt.computation(lambda w, g: w - g, part, name="update", donate=(0,))
    both = rt.value_and_grad(lambda w: loss(w))

    @rt.program
    def step(w):
        value, gradient = both(w)
        return value, update(w, gradient)

    _, new = step(jax.ShapeDtypeStruct((3,), jnp.float32))
    _, newer = step(new)
    newer.result()
    assert system.end == 4.0
    with pytest.raises(rt.ValueReleased, match="donated"):
        new.result()


def test_times_are_the_same_every_time():
    def once():
        system = rt.SimulatedRuntime(SLOW, {"*": 3.0})
        parts = [system.virtual_devices(name).add_slice(4) for name in system.islands]
        steps = [plus(part) for part in parts]

        @rt.program
        def run(x):
            for n in range(20):
                x = steps[n % 2](x)
            return x

        run(SCALAR).result()
        return system.now, system.totals

    assert once() == once()


def test_a_recording_has_simulated_times(tmp_path):
    system = rt.SimulatedRuntime(SLOW, {"step": 1000.0})
    part = system.virtual_devices("island1").add_slice(8)
    with rt.recording(system) as recorder:
        chain(plus(part), 2)(SCALAR).result()
    first, second = recorder.spans
    assert (first.name, first.island, first.kind) == ("step", "island1", "node")
    assert (first.sent_began, first.sent_ended) == (6.0, 6.5)
    assert (first.began, first.ended, second.began) == (116.5, 1116.5, 1116.5)
    summary = rt.summarise(recorder.spans)
    assert summary.nodes == 2
    assert rt.write_trace(recorder.spans, tmp_path / "trace.json").stat().st_size > 100


def test_memory_is_counted_and_makes_nodes_wait():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0}, memory_budget=100)
    part = system.virtual_devices().add_slice(1)
    step = plus(part)
    x = jax.ShapeDtypeStruct((20,), jnp.float32)
    out = step(x)
    assert system.store.live() == 80
    with pytest.raises(rt.StoreFull, match="100"):
        step(jax.ShapeDtypeStruct((26,), jnp.float32)).result()
    out.release()
    assert system.store.live() == 0


def test_waiting_has_simulated_limits():
    system = rt.SimulatedRuntime(FREE, {"step": 1000.0})
    part = system.virtual_devices().add_slice(1)
    out = plus(part)(SCALAR)
    with pytest.raises(rt.RunTimeout):
        out.result(timeout=10.0)
    assert system.now == 10.0
    assert out.result(timeout=2000.0) is not None
    assert system.now == 1000.0


def test_a_look_at_what_is_not_there_lets_time_go_on():
    system = rt.SimulatedRuntime(FREE, {"step": 1000.0})
    out = plus(system.virtual_devices().add_slice(1))(SCALAR)
    assert not out.done()
    assert out.done()
    assert system.now == 1000.0


def test_a_lost_island_fails_what_was_on_it():
    system = rt.SimulatedRuntime(FREE, {"step": 1.0})
    out = plus(system.virtual_devices("island0").add_slice(1))(SCALAR)
    other = plus(system.virtual_devices("island1").add_slice(1))(SCALAR)
    system.lose_island("island0")
    with pytest.raises(rt.IslandLost):
        out.result()
    assert other.result().shape == ()


def test_a_turn_whose_last_node_ended_first_is_waited_for():
    # Its nodes are on two slices; waiting for one that has ended would be no wait, for ever.
    system = rt.SimulatedRuntime(FREE, {"slow": 100.0, "quick": 1.0}, window=4)
    devices = system.virtual_devices("island0")
    slow, quick = plus(devices.add_slice(4), "slow"), plus(devices.add_slice(4), "quick")

    @rt.program
    def run(x, y):
        found = []
        for _ in range(4):
            found += [slow(x), quick(y)]
        return found

    jax.block_until_ready(run(SCALAR, SCALAR))
    assert system.end == 4 * 100
