"""Gradients of switches that their island expands by itself: the same bits, in one message."""

import contextlib
import gc
import os
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from . import near_islands
from .near_islands import kept
from .ray_processes import a_ray_to_use

ROWS, WIDTH, COUNT = 16, 3, 4
CASES = ([3, 0, 8, 5], [0, 16, 0, 0], [4, 4, 4, 4], [0, 0, 0, 0])
hosts, system = near_islands.hosts, near_islands.system


class Saving:
    """A branch that keeps what its backward needs."""

    def forward(self, params, rows):
        h = jnp.tanh(rows @ params["w"])
        return h + params["b"], {"h": h}

    def backward(self, params, rows, saved, grad):
        saved = saved or self.forward(params, rows)[1]
        d = grad * (1 - saved["h"] ** 2)
        return d @ params["w"].T, {"w": rows.T @ d, "b": grad.sum(0)}


def rowwise(params, rows):
    return jnp.tanh(rows @ params["w"]) + params["b"]


class Step:
    """The gradient of a router, switches over the same branches, and a loss."""

    def __init__(
        self, slices, branch=rowwise, out=WIDTH, switches=1, save=True, compiled=True, together=1
    ):
        self.slices, home = slices, slices[0]
        shapes = {
            "w": jax.ShapeDtypeStruct((WIDTH, out), jnp.float32),
            "b": jax.ShapeDtypeStruct((out,), jnp.float32),
        }
        self.switches = [
            rt.Switch(branch, slices, shapes, COUNT, name=name, together=together, save=save)
            for name in ("experts", "others")[:switches]
        ]
        keys = jax.random.split(jax.random.key(1), COUNT)
        self.trees = [
            {"w": jax.random.normal(key, (WIDTH, out)), "b": jnp.full(out, 0.1)} for key in keys
        ]
        self.bank = rt.Branches(
            [slices[b % len(slices)].put(tree) for b, tree in enumerate(self.trees)]
        )
        self.w, self.x = jnp.eye(WIDTH) + 0.1, jax.random.normal(jax.random.key(0), (ROWS, WIDTH))
        row = jnp.arange(ROWS)[:, None]
        self.pre = rt.computation(lambda w, x, c: (x @ w, c), home, name="router")
        self.post = rt.computation(self._post, home, name="loss")
        self.row = row
        self.program = rt.value_and_grad(self._run, (0, 1), save=save)
        if compiled:
            counts = jax.ShapeDtypeStruct((COUNT,), np.int32)
            self.program.compile(self.w, self.bank, self.x, counts)

    def _run(self, w, bank, x, counts):
        rows, counts = self.pre(w, x, counts)
        return self.post([switch.parts(counts, rows, bank) for switch in self.switches], counts)

    def _post(self, outs, counts):
        merged = [rt.merge_branches(parts, counts) for parts in outs]
        return sum((jnp.where(self.row < counts.sum(), y, 0) ** 2).sum() for y in merged)

    def __call__(self, counts):
        return self.program(self.w, self.bank, self.x, np.array(counts, np.int32))


def bits(found):
    return jax.tree.map(np.asarray, jax.tree.leaves(found))


def check(system, step, counts):
    """The island's numbers are those of the controller's expansion, bit for bit."""
    value, (d_w, sparse) = step(counts)
    assert not system.default.runs  # nothing waits for a read
    found = sparse.result()
    assert isinstance(found, rt.Sparse)
    assert sorted(found) == np.flatnonzero(counts).tolist()
    where = sparse.array().slices
    assert all(where[b] is step.slices[b % len(step.slices)] for b in found)
    with rt.recording(system) as recorder:  # who looks at every node has it expanded here
        again, (again_w, again_sparse) = step(counts)
        wanted = again_sparse.result()
    assert any(span.woken_by is not None for span in recorder.spans)
    assert not any("as a whole" in span.name for span in recorder.spans)
    assert sorted(wanted) == sorted(found)
    pairs = zip(
        bits((value.result(), d_w.result(), dict(found))),
        bits((again.result(), again_w.result(), dict(wanted))),
        strict=True,
    )
    for mine, theirs in pairs:
        np.testing.assert_array_equal(mine, theirs)
    assert all(switch.last.tolist() == counts for switch in step.switches)


@pytest.mark.parametrize(
    ("homes", "options"),
    [
        pytest.param(1, {}, id="rematerialised"),
        pytest.param(1, {"branch": Saving()}, id="saved"),
        pytest.param(1, {"together": 4}, marks=pytest.mark.slow, id="together"),
        pytest.param(2, {"branch": Saving()}, marks=pytest.mark.slow, id="saved-two-slices"),
        pytest.param(
            1, {"branch": Saving(), "save": False}, marks=pytest.mark.slow, id="not-saved"
        ),
        pytest.param(2, {"out": 5}, marks=pytest.mark.slow, id="other-shapes-two-slices"),
        pytest.param(3, {}, marks=pytest.mark.slow, id="more-slices-than-devices"),
        pytest.param(2, {"switches": 2}, marks=pytest.mark.slow, id="shared-two-slices"),
    ],
)
def test_gradients_are_those_of_the_controllers_expansion(system, hosts, homes, options):
    before = kept(hosts)
    devices = system.virtual_devices("island0")
    step = Step([devices.add_slice(1) for _ in range(homes)], **options)
    for counts in CASES:
        check(system, step, counts)
    step(CASES[0])  # whose gradients nobody asks for
    del step
    system.drain()
    assert {n: kept(hosts)[n] - held for n, held in before.items()} == dict.fromkeys(before, 0)


def sent_whole(hosts, call):
    """What a call sends before its island has said anything: kinds of operations."""
    line, held = hosts.outboxes["island0"].line, []
    send, line.send = line.send, lambda *message: held.append(message)
    try:
        found = call()
        hosts.outboxes["island0"].flush()
    finally:
        line.send = send
    for message in held:
        send(*message)
    kinds = [op[0] for _, _, ops in held for op in ops]
    return found, [kind for kind in kinds if kind not in ("free", "put")]


def test_a_step_is_sent_whole_before_its_island_has_said_anything(system, hosts):
    """No round trip for whose gradients there are; from here there is one."""
    step = Step([system.virtual_devices("island0").add_slice(1)], switches=2)
    step(CASES[0])[0].result()
    (value, (_, sparse)), kinds = sent_whole(hosts, lambda: step(CASES[0]))
    # The router, two switches, the loss with its backward, both back, their sum, the router back.
    assert kinds == ["run", "wake", "wake", "run", "wake", "wake", "run", "wake"]
    assert not system.default.runs
    assert sorted(sparse.result()) == [0, 2, 3]
    with rt.recording(system):
        (again, _), kinds = sent_whole(hosts, lambda: step(CASES[0]))
        assert kinds == ["run"]
        assert system.default.runs  # it waits to be told the counts
        assert again.result() == value.result()


class Meeting:
    """Counts of which two who read them wait for each other, as long as that may be."""

    def __init__(self, counts):
        self.counts, self.both = counts, threading.Barrier(2, timeout=0.3)

    def __array__(self, dtype=None, copy=None):
        with contextlib.suppress(threading.BrokenBarrierError):
            self.both.wait()
        return np.asarray(self.counts, dtype)


def test_a_gradient_that_two_ask_for_at_once_is_one(system, hosts):
    step = Step([system.virtual_devices("island0").add_slice(1)])
    wanted = bits(dict(step(CASES[0])[1][1].result()))
    _, (_, sparse) = step(CASES[0])
    sparse._array.read = [Meeting(counts) for counts in sparse._array.read]
    found = []
    threads = [threading.Thread(target=lambda: found.append(sparse.array())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]
    found.clear()
    kept(hosts)  # what is nobody's is forgotten
    for mine, theirs in zip(bits(dict(sparse.result())), wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_switches_that_share_branches(system):
    step = Step([system.virtual_devices("island0").add_slice(1)], switches=2)
    for counts in CASES[:2]:
        check(system, step, counts)


def test_kept_rows_are_not_written_to_by_a_switch_without_gradients(system, hosts):
    step = Step([system.virtual_devices("island0").add_slice(1)])
    (switch,) = step.switches
    program = rt.program(lambda counts, rows, bank: switch(counts, rows, bank))
    counts = np.array(CASES[0], np.int32)
    program.compile(counts, step.x, step.bank)

    def run(w, bank, x, counts):
        rows, counts = step.pre(w, x, counts)
        parts = switch.parts(counts, rows, bank)
        return step.post([parts], counts), switch(counts, rows, bank)

    both = rt.value_and_grad(run, (0, 1), has_aux=True)
    call = lambda: both(step.w, step.bank, step.x, counts)  # noqa: E731
    for _ in range(2):
        ((value, out), (d_w, _)), kinds = sent_whole(hosts, call)
        assert kinds.count("wake") == 3
        wanted, (wanted_w, _) = step(CASES[0])
        np.testing.assert_array_equal(bits(value.result()), bits(wanted.result()))
        np.testing.assert_array_equal(bits(d_w.result()), bits(wanted_w.result()))
        assert out.result().shape == (ROWS, WIDTH)


def test_rows_without_gradients(system):
    """Integers to rows of a table: by the tables alone."""
    part = system.virtual_devices("island0").add_slice(1)
    tables = [part.put(np.arange(12.0, dtype=np.float32).reshape(4, 3) + 100 * e) for e in range(3)]
    switch = rt.Switch(lambda table, n: table[n], part, tables[0], 3)
    total = rt.computation(lambda x, w: (x[:5] * w).sum(), part)
    both = rt.value_and_grad(lambda c, r, b, w: total(switch(c, r, b), w), 2)
    given = (
        part.put(np.array([2, 0, 3], np.int32)),
        part.put(np.array([3, 0, 1, 1, 2, 0, 0], np.int32)),
        rt.Branches(tables),
        np.arange(15.0, dtype=np.float32).reshape(5, 3),
    )
    both.compile(*given)
    value, sparse = both(*given)
    assert not system.default.runs
    found = sparse.result()
    assert sorted(found) == [0, 2]
    np.testing.assert_array_equal(
        found[0], jnp.zeros((4, 3)).at[jnp.array([3, 0])].add(given[3][:2])
    )
    with rt.recording(system):
        assert both(*given)[0].result() == value.result()


def test_errors_are_the_nodes(system, hosts):
    step = Step([system.virtual_devices("island0").add_slice(1)])
    check(system, step, CASES[0])
    before = kept(hosts)
    value, (d_w, sparse) = step([40, 0, 0, 0])
    for result in (sparse.array, sparse.result, value.result, d_w.result):
        with pytest.raises(rt.NodeError, match=r"'experts' of program.*sum to 40, and there"):
            result()
    del value, d_w, sparse, result
    check(system, step, CASES[0])
    assert kept(hosts) == before


def test_what_the_forward_kept_is_there_for_the_backward_alone(system, hosts):
    """A recorder that begins between the two has the backward done where the forward was."""
    part = system.virtual_devices("island0").add_slice(1)
    step = Step([part])
    gate = rt.Gate(lambda x, _: 2 * x, part, name="gate")
    total = rt.computation(jnp.sum, part, name="rows")

    def run(w, bank, x, counts):
        rows, counts = step.pre(w, x, counts)
        (parts,) = step.switches[0].parts(counts, rows, bank)
        return step.post([[gate(total(counts), parts, [])]], counts)

    both = rt.value_and_grad(run, (0, 1))
    both.compile(step.w, step.bank, step.x, np.array(CASES[0], np.int32))
    wanted = None
    for recorded in (False, True):
        given = step.w, step.bank, step.x, np.array(CASES[0], np.int32)
        (value, (d_w, sparse)), kinds = sent_whole(hosts, lambda given=given: both(*given))
        assert kinds.count("wake") == 1
        if recorded:
            with rt.recording(system) as recorder:
                value.result()
            assert [s.name for s in recorder.spans if "as a whole" in s.name] == ["as a whole"]
        found = bits((value.result(), d_w.result(), dict(sparse.result())))
        wanted = wanted or found
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_what_is_not_all_there_is_expanded_by_the_controller(system, hosts):
    """A backward that is not compiled, parameters of this process, a budget."""
    here = system.virtual_devices("island0").add_slice(1)
    late, mine = Step([here], compiled=False), Step([here])
    mine.bank = rt.Branches(mine.trees)
    wanted = bits(Step([here])(CASES[0])[0].result())
    for step in (late, mine):
        (value, (_, sparse)), kinds = sent_whole(hosts, lambda step=step: step(CASES[0]))
        assert "wake" not in kinds
        assert sorted(sparse.result()) == [0, 2, 3]
        np.testing.assert_allclose(bits(value.result()), wanted, rtol=1e-6)
    with hosts.runtime(memory_budget=1 << 20) as counted:
        step = Step([counted.virtual_devices("island0").add_slice(1)])
        (value, (_, sparse)), kinds = sent_whole(hosts, lambda: step(CASES[0]))
        assert "wake" not in kinds
        np.testing.assert_array_equal(bits(value.result()), wanted)
        del step, sparse, value
        gc.collect()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_on_an_island_that_is_a_process():
    """The same bits, sent whole, and on the island nothing is left."""
    with (
        a_ray_to_use(pytest.importorskip("ray")),
        rt.RayIslands(1, devices=2, address=os.environ["BYWAYS_TEST_RAY"]) as there,
        rt.RayRuntime(hosts=there) as system,
    ):
        devices = system.virtual_devices("island0")
        step = Step([devices.add_slice(1), devices.add_slice(1)], Saving(), switches=2)
        for counts in CASES:
            check(system, step, counts)
        (value, (_, sparse)), kinds = sent_whole(there, lambda: step(CASES[0]))
        assert kinds.count("wake") == 5
        wanted = Step([rt.Runtime().virtual_devices().add_slice(1)], Saving(), switches=2)
        here, (_, also) = wanted(CASES[0])
        np.testing.assert_allclose(bits(value.result()), bits(here.result()), rtol=1e-5)
        pairs = zip(bits(dict(sparse.result())), bits(dict(also.result())), strict=True)
        for mine, theirs in pairs:
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
        del value, sparse, _, step
        gc.collect()
        system.drain()
        assert kept(there) == {"island0": 0}
