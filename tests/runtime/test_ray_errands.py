"""Switches over several islands, decided by the one with the router: who sleeps hears nothing."""

import os
import threading

import numpy as np
import pytest

from byways import runtime as rt

from . import near_islands
from .near_islands import kept
from .ray_processes import a_ray_to_use
from .test_ray_waking import COUNT, WIDTH, Layer, rows
from .test_ray_waking_gradients import Saving, Step, bits, check

hosts, mortals, system = near_islands.hosts, near_islands.mortals, near_islands.system
CASES = ([16, 0, 0, 0], [3, 0, 8, 5], [4, 4, 4, 4], [0, 7, 0, 0], [0, 0, 0, 0])


def layer_on(system, places, out=WIDTH, together=1):
    """A layer whose first slice, with the router, is on the first of these islands."""
    slices = [system.virtual_devices(f"island{n}").add_slice(1) for n in places]
    return Layer(slices, out, together=together)


def step_on(system, places, branch=None, **options):
    """The same for a step with gradients."""
    slices = [system.virtual_devices(f"island{n}").add_slice(1) for n in places]
    return Step(slices, branch or Saving(), **options)


def posted(hosts, monkeypatch, island="island0"):
    """A list of the islands that one of them says something to."""
    host, found = hosts.hosts[island], []
    post = host._post
    monkeypatch.setattr(host, "_post", lambda to, *what: (found.append(to), post(to, *what)))
    return found


@pytest.mark.parametrize(
    ("places", "out"),
    [
        ((0, 1), WIDTH),
        pytest.param((0, 1, 1, 0), WIDTH, marks=pytest.mark.slow),
        pytest.param((0, 1, 1, 1), 5, marks=pytest.mark.slow),  # more slices there than devices
        pytest.param((1, 0, 0, 0), WIDTH, marks=pytest.mark.slow),
    ],
)
def test_values_are_those_of_the_controllers_expansion(system, hosts, places, out):
    before, x = kept(hosts), rows()
    layer = layer_on(system, places, out, len(places))
    for counts in CASES:
        found, total = layer(x, counts), sum(counts)
        assert not system.default.runs  # nothing waits for a read
        np.testing.assert_allclose(found.result()[:total], layer.wanted(x, counts), rtol=1e-5)
        with rt.recording(system) as recorder:  # who looks at every node has it expanded here
            again = layer(x, counts).result()
        np.testing.assert_array_equal(found.result()[:total], again[:total])
        assert not any("as a whole" in span.name for span in recorder.spans)
        assert layer.switch.last.tolist() == counts
    layer(x, CASES[0]).result()
    del layer, found
    system.drain()
    assert {n: kept(hosts)[n] - held for n, held in before.items()} == dict.fromkeys(before, 0)


def test_an_island_hears_from_the_routers_alone_and_only_when_it_is_awake(
    system, hosts, monkeypatch
):
    layer, x = layer_on(system, (0, 1)), rows()
    layer(x, CASES[1]).result()
    said, outbox = posted(hosts, monkeypatch), hosts.outboxes["island1"]
    outbox.flush(forget=True)
    before, held = outbox.messages, hosts.hosts["island1"].held()
    for counts, words in (([8, 0, 8, 0], 0), ([8, 1, 7, 0], 1), ([0, 8, 0, 8], 1)):
        said.clear()
        np.testing.assert_allclose(layer(x, counts).result(), layer.wanted(x, counts), rtol=1e-5)
        assert said == ["island1"] * words
    assert outbox.messages == before
    assert hosts.hosts["island1"].held() == held


def test_rows_that_others_need_are_left_to_them(system):
    layer, x = layer_on(system, (0, 1)), rows()

    @rt.program
    def both(x, counts, bank):
        found, counts = layer.router(x, counts)
        return layer.end(layer.switch.parts(counts, found, bank), counts), found

    for counts in ([8, 8, 0, 0], [16, 0, 0, 0]):
        first, second = both(x, np.array(counts, np.int32), layer.bank)
        np.testing.assert_allclose(first.result(), layer.wanted(x, counts), rtol=1e-5)
        np.testing.assert_array_equal(second.result(), 2 * x)


def test_parameters_that_were_only_just_brought(system, hosts):
    layer, x, counts = layer_on(system, (0, 1)), rows(), [4, 4, 4, 4]
    for times in (2.0, 3.0):
        bank = rt.Branches(
            [layer.switch.slices[b % 2].put(times * tree) for b, tree in enumerate(layer.trees)]
        )
        found = layer.program(x, np.array(counts, np.int32), bank)
        del bank
        np.testing.assert_allclose(found.result(), times * layer.wanted(x, counts), rtol=1e-5)


def test_parameters_are_not_given_away_before_their_errand_has_run(system, hosts):
    """The island that has them does not know of it; who would give them away waits."""
    layer, x, counts = layer_on(system, (0, 1)), rows(), [4, 4, 4, 4]
    part = layer.switch.slices[1]
    double = rt.OnSlices(lambda w: 2 * w, donate=(0,)).on(part)
    double(part.put(layer.trees[1]))
    line, held = hosts.outboxes["island0"].line, []
    send, line.send = line.send, lambda *message: held.append(message)
    found, given = layer(x, counts), dict(layer.bank.trees)
    later = threading.Thread(target=lambda: given.update({1: double(given[1])}))
    later.start()
    later.join(0.1)
    assert later.is_alive()
    line.send = send
    for message in held:
        send(*message)
    later.join(20)
    assert not later.is_alive()
    np.testing.assert_allclose(found.result(), layer.wanted(x, counts), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(given[1]), 2 * layer.trees[1])
    assert layer.bank.trees[1].is_deleted()


def test_two_islands_that_ask_each_other(system):
    """Each has a router, and branches of the other's; many runs are on their way at once."""
    layers, x = [layer_on(system, (0, 1)), layer_on(system, (1, 0))], rows()
    rng = np.random.default_rng(0)
    cases = [rng.multinomial(16, [0.25] * COUNT).tolist() for _ in range(20)]
    found = [(n, counts, layers[n](x, counts)) for counts in cases for n in (0, 1)]
    for n, counts, value in found:
        np.testing.assert_allclose(value.result(), layers[n].wanted(x, counts), rtol=1e-5)


def test_errors_are_the_nodes(system):
    layer, x = layer_on(system, (0, 1)), rows()
    with pytest.raises(rt.NodeError, match=r"'experts' of program 'layer'.*sum to 40, and there"):
        layer(x, [0, 40, 0, 0]).result()
    counts = [8, 8, 0, 0]
    np.testing.assert_allclose(layer(x, counts).result(), layer.wanted(x, counts), rtol=1e-5)


def test_an_island_that_is_lost_with_its_errand(mortals, monkeypatch):
    """Who waits for it is told, and the router's goes on."""
    with mortals.runtime(patience=20.0) as system:
        layer, x = layer_on(system, (0, 1)), rows()
        layer(x, CASES[1]).result()
        there = mortals.hosts["island1"]
        asked = threading.Event()
        monkeypatch.setattr(there._errands, "take", lambda errand: asked.set())
        found = layer(x, [8, 8, 0, 0])
        mortals.outboxes["island0"].flush()
        assert asked.wait(20)
        mortals.kill("island1")
        with pytest.raises(rt.IslandLost, match="island1"):
            found.result()
        alone = layer_on(system, (0,))
        np.testing.assert_allclose(
            alone(x, CASES[2]).result(), alone.wanted(x, CASES[2]), rtol=1e-5
        )


# Gradients.


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ((0, 1), {}),
        pytest.param((0, 1), {"save": False}, marks=pytest.mark.slow),
        pytest.param((0, 1, 1, 0), {"together": 4}, marks=pytest.mark.slow),
        pytest.param((1, 0, 0, 0), {}, marks=pytest.mark.slow),  # more slices than devices
        pytest.param((0, 1), {"switches": 2}, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_controllers_expansion(system, hosts, places, options):
    before = kept(hosts)
    step = step_on(system, places, **options)
    for counts in CASES:
        check(system, step, counts)
    step(CASES[1])[0].result()  # whose gradients nobody asks for
    del step
    system.drain()
    assert {n: kept(hosts)[n] - held for n, held in before.items()} == dict.fromkeys(before, 0)
    assert not any(host._errands._kept for host in hosts.hosts.values())


@pytest.mark.slow
def test_other_shapes_out_than_in_and_rows_without_gradients(system, hosts):
    slices = [system.virtual_devices(f"island{n}").add_slice(1) for n in (0, 1)]
    check(system, Step(slices, out=5), CASES[1])
    tables = [
        slices[e % 2].put(np.arange(12.0, dtype=np.float32).reshape(4, 3) + 100 * e)
        for e in range(3)
    ]
    switch = rt.Switch(lambda table, n: table[n], slices, tables[0], 3)
    total = rt.computation(
        lambda parts, c, w: (rt.merge_branches(parts, c)[:5] * w).sum(), slices[0]
    )
    both = rt.value_and_grad(lambda c, r, b, w: total(switch.parts(c, r, b), c, w), 2)
    given = (
        slices[0].put(np.array([2, 3, 0], np.int32)),
        slices[0].put(np.array([3, 0, 1, 1, 2, 0, 0], np.int32)),
        rt.Branches(tables),
        np.arange(15.0, dtype=np.float32).reshape(5, 3),
    )
    both.compile(*given)
    value, sparse = both(*given)
    assert not system.default.runs
    with rt.recording(system):
        again, wanted = both(*given)
        assert again.result() == value.result()
    assert sorted(sparse.result()) == sorted(wanted.result()) == [0, 1]
    pairs = zip(bits(dict(sparse.result())), bits(dict(wanted.result())), strict=True)
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)


def test_gradients_of_who_sleeps_are_no_message(system, hosts, monkeypatch):
    step = step_on(system, (0, 1))
    step([8, 8, 0, 0])[0].result()
    said, outbox = posted(hosts, monkeypatch), hosts.outboxes["island1"]
    system.drain()
    outbox.flush(forget=True)
    before = outbox.messages
    for counts, words in (([8, 0, 8, 0], 0), ([8, 8, 0, 0], 2)):
        said.clear()
        value, (_, sparse) = step(counts)
        value.result()
        found = sparse.array()
        assert sorted(found) == np.flatnonzero(counts).tolist()
        assert said == ["island1"] * words  # forward and backward
        if not words:
            assert outbox.messages == before
    # Whoever looks at a gradient there has its island asked.
    assert sorted(sparse.result()) == [0, 1]
    assert outbox.messages > before


def test_a_step_whose_backward_is_not_wanted_is_forgotten(system, hosts, monkeypatch):
    step = step_on(system, (0, 1))
    part = step.slices[0]
    gate = rt.Gate(lambda x, _: 2 * x, part, name="gate")

    total = rt.computation(lambda c: c.sum(), part, name="rows")

    def gated(w, bank, x, counts):
        rows, counts = step.pre(w, x, counts)
        outs = step.switches[0].parts(counts, rows, bank)
        return step.post([[gate(total(counts), one, []) for one in outs]], counts)

    both = rt.value_and_grad(gated, (0, 1))
    given = step.w, step.bank, step.x, np.array([8, 8, 0, 0], np.int32)
    both.compile(*given)
    line, held = hosts.outboxes["island0"].line, []
    send, line.send = line.send, lambda *message: held.append(message)
    found = both(*given)
    hosts.outboxes["island0"].flush()
    line.send = send
    found[0].cancel()
    del found
    said = posted(hosts, monkeypatch)
    for message in held:
        send(*message)
    system.drain()
    kept(hosts)
    assert said == ["island1"] * 2  # its part of the forward, and that there is no more
    assert not any(host._errands._kept for host in hosts.hosts.values())
    both(*given)[0].result()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_over_islands_that_are_processes():
    with (
        a_ray_to_use(pytest.importorskip("ray")),
        rt.RayIslands(2, devices=2, address=os.environ["BYWAYS_TEST_RAY"]) as there,
        rt.RayRuntime(hosts=there) as system,
    ):
        layer, x = layer_on(system, (0, 1, 1, 0)), rows()
        layer(x, CASES[1]).result()
        outbox = there.outboxes["island1"]
        before = outbox.messages
        for counts in CASES:
            found, total = layer(x, counts), sum(counts)
            assert not system.default.runs
            np.testing.assert_allclose(found.result()[:total], layer.wanted(x, counts), rtol=1e-5)
        assert outbox.messages == before
        layers = [layer, layer_on(system, (1, 0))]
        step = step_on(system, (0, 1, 1, 0), switches=2)
        for counts in CASES:
            check(system, step, counts)
        many = [(n, layers[n](x, CASES[2])) for _ in range(10) for n in (0, 1)]
        for n, value in many:
            np.testing.assert_allclose(value.result(), layers[n].wanted(x, CASES[2]), rtol=1e-5)
