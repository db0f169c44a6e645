"""Switches that their island expands by itself: the same values, in one message, nobody waiting."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from . import near_islands
from .near_islands import kept

ROWS, WIDTH, COUNT = 16, 3, 4
hosts, system = near_islands.hosts, near_islands.system


class Layer:
    """A router that says who gets how many rows, a switch, and a sum."""

    def __init__(self, slices, out=WIDTH, compiled=True, together=4):
        home = slices[0]
        self.part, shape = home, jax.ShapeDtypeStruct((WIDTH, out), jnp.float32)
        self.switch = rt.Switch(
            lambda w, x: x @ w, slices, shape, COUNT, name="experts", together=together
        )
        self.router = rt.computation(lambda x, c: (2 * x, c), home, name="router")
        self.end = rt.computation(rt.merge_branches, home, name="end")
        self.trees = [np.full((WIDTH, out), b + 1, np.float32) for b in range(COUNT)]
        self.bank = rt.Branches(
            [slices[b % len(slices)].put(tree) for b, tree in enumerate(self.trees)]
        )
        self.program = rt.program(self._run, name="layer")
        if compiled:
            shapes = jax.ShapeDtypeStruct((ROWS, WIDTH), np.float32)
            self.program.compile(shapes, jax.ShapeDtypeStruct((COUNT,), np.int32), self.bank)

    def _run(self, x, counts, bank):
        rows, counts = self.router(x, counts)
        return self.end(self.switch.parts(counts, rows, bank), counts)

    def __call__(self, x, counts):
        return self.program(x, np.array(counts, np.int32), self.bank)

    def wanted(self, x, counts):
        ends = np.cumsum(counts)
        return np.concatenate(
            [2 * x[e - n : e] @ w for e, n, w in zip(ends, counts, self.trees, strict=True)]
        )


def rows():
    return np.asarray(jax.random.normal(jax.random.key(0), (ROWS, WIDTH)))


@pytest.mark.parametrize("homes", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("out", [WIDTH, pytest.param(5, marks=pytest.mark.slow)])
def test_values_are_those_of_the_controllers_expansion(system, hosts, homes, out):
    before, x = kept(hosts), rows()
    devices = system.virtual_devices("island0")
    layer = Layer([devices.add_slice(1) for _ in range(homes)], out)
    for counts in ([16, 0, 0, 0], [3, 0, 8, 5], [4, 4, 4, 4], [0, 7, 0, 0]):
        found = layer(x, counts)
        assert not system.default.runs  # nothing waits for a read
        total = sum(counts)
        wanted = layer.wanted(x, counts)
        np.testing.assert_allclose(found.result()[:total], wanted, rtol=1e-5)
        with rt.recording(system) as recorder:  # who looks at every node has it expanded here
            again = layer(x, counts).result()
        np.testing.assert_array_equal(found.result()[:total], again[:total])
        assert any(span.woken_by is not None for span in recorder.spans)
        assert layer.switch.last.tolist() == counts
    layer(x, [0, 0, 0, 0]).result()
    del layer, found, again
    assert {n: kept(hosts)[n] - held for n, held in before.items()} == dict.fromkeys(before, 0)


def test_a_layer_is_sent_whole_before_its_island_has_said_anything(system, hosts):
    """No round trip; from here there is one, in which the counts come back."""
    layer, x = Layer([system.virtual_devices("island0").add_slice(1)]), rows()
    counts, line = [8, 0, 8, 0], hosts.lines["island0"]
    layer(x, counts).result()
    kinds = lambda: [op[0] for _, _, ops in held for op in ops if op[0] != "free"]  # noqa: E731
    for recorded, wanted in ((False, ["run", "wake", "run"]), (True, ["run"])):
        held, send = [], line.send
        line.send = lambda *message, held=held: held.append(message)
        context = rt.recording(system) if recorded else contextlib.nullcontext()
        with context:
            found = layer(x, counts)
            hosts.outboxes["island0"].flush()
            assert [kind for kind in kinds() if kind != "put"] == wanted
            assert bool(system.default.runs) is recorded  # it waits to be told the counts
            line.send = send
            for message in held:
                send(*message)
            np.testing.assert_allclose(found.result(), layer.wanted(x, counts), rtol=1e-5)


def test_rows_that_others_need_are_left_to_them(system):
    layer, x = Layer([system.virtual_devices("island0").add_slice(1)]), rows()

    @rt.program
    def both(x, counts, bank):
        found, counts = layer.router(x, counts)
        return layer.switch(counts, found, bank), found

    counts = np.array([16, 0, 0, 0], np.int32)
    first, second = both(x, counts, layer.bank)
    np.testing.assert_allclose(first.result(), 2 * x @ layer.trees[0], rtol=1e-5)
    np.testing.assert_array_equal(second.result(), 2 * x)


def test_what_is_not_all_there_is_expanded_by_the_controller(system):
    """Executables that are not compiled, parameters of this process."""
    x, counts = rows(), [3, 5, 0, 8]
    here = system.virtual_devices("island0").add_slice(1)
    late, mine = Layer([here], compiled=False), Layer([here])
    mine.bank = rt.Branches([jnp.asarray(tree) for tree in mine.trees])
    for layer in (late, mine):
        found = layer(x, counts)
        np.testing.assert_allclose(found.result(), layer.wanted(x, counts), rtol=1e-5)


def test_errors_are_the_nodes(system):
    layer, x = Layer([system.virtual_devices("island0").add_slice(1)]), rows()
    with pytest.raises(rt.NodeError, match=r"'experts' of program 'layer'.*sum to 40, and there"):
        layer(x, [40, 0, 0, 0]).result()
    counts = [16, 0, 0, 0]
    np.testing.assert_allclose(layer(x, counts).result(), layer.wanted(x, counts), rtol=1e-5)
