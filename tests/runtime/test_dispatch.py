"""What is sent when: all that depends on no data at once, the rest as soon as it is known."""

import itertools
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .islands import held_back, slow, wait_at
from .peers import until

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def system():
    with rt.Runtime() as made:
        yield made


@pytest.fixture
def nodes(system):
    """Computations by name, on one device; `count` gives its argument."""
    part = system.virtual_devices().add_slice(1)

    def make(name, fn=lambda x: x + 1):
        node = rt.computation(fn, part, name=name)
        node.lower(X)
        return node

    return part, make


def sent(recorder):
    """Names of what was sent, in order; the wait for a read as `read`."""
    return [s.name if s.kind != "read" else "read" for s in recorder.spans]


def test_what_depends_on_no_read_is_sent_before_it(system, nodes):
    """Also where it stands later in the program, and what other islands do."""
    part, make = nodes
    count, f, g, h = (make(name) for name in ("count", "f", "g", "h"))
    program = rt.program(lambda x: (f(wait_at(count(x), g(x), part)), h(g(x))))
    with rt.recording(system) as recorder, held_back(count) as door:
        waits, free = program(X)
        np.testing.assert_array_equal(free.result(10.0), X + 2)
        assert free.done()
        assert not waits.done()
        door.set()
        np.testing.assert_array_equal(waits.result(), X + 2)
    assert sent(recorder) == ["count", "g", "g", "h", "read", "f"]


def test_two_reads_in_a_row_and_what_is_between(system, nodes):
    part, make = nodes
    first, second, f, g = (make(name) for name in ("first", "second", "f", "g"))

    @rt.program
    def program(x):
        a = f(wait_at(first(x), x, part, "one"))
        b = g(wait_at(second(x), x, part, "two"))
        return a, b, f(wait_at(second(a), b, part, "three"))

    with held_back(first) as door, held_back(second) as other:
        a, b, c = program(X)
        # The second may be known before the first.
        other.set()
        np.testing.assert_array_equal(b.result(10.0), X + 1)
        assert not a.done()
        assert not c.done()
        door.set()
        np.testing.assert_array_equal(c.result(), X + 2)
        np.testing.assert_array_equal(a.result(), X + 1)


def test_runs_that_wait_do_not_hold_up_the_next(system, nodes):
    """Three runs: all that is static of all three, then reads, then what depends on them."""
    part, make = nodes
    count, f = make("count"), make("f")
    seen = []
    program = rt.program(lambda x: f(wait_at(count(x), x, part, seen=seen)))
    with rt.recording(system) as recorder, held_back(count) as door:
        outs = [program(X + n) for n in range(3)]
        assert len(system.default.runs) == 3
        door.set()
        # Who asks for the last brings the others on, too.
        np.testing.assert_array_equal(outs[2].result(), X + 3)
        until(lambda: all(out.done() for out in outs))
        assert not system.default.runs
    assert sent(recorder)[:3] == ["count"] * 3
    assert sent(recorder).count("f") == 3
    assert sorted(float(read[0]) for read in seen) == [1, 2, 3]
    for n, out in enumerate(outs):
        np.testing.assert_array_equal(out.result(), X + n + 1)


def test_a_later_call_sends_what_has_become_known(system, nodes):
    part, make = nodes
    count, f, g = make("count"), make("f"), make("g")
    with held_back(count) as door:
        early = rt.program(lambda x: f(wait_at(count(x), x, part)))(X)
        assert not early.done()
        door.set()
        g(X)
        assert not system.default.runs
        assert early.done() or early.result() is not None
    system.poll()


def test_a_result_of_a_waiting_run_as_argument(system, nodes):
    """It is waited for: what is sent next needs its array."""
    part, make = nodes
    count, f, g = make("count"), make("f"), make("g")
    with held_back(count) as door:
        early = rt.program(lambda x: f(wait_at(count(x), x, part)))(X)
        threading.Timer(0.05, door.set).start()
        np.testing.assert_array_equal(g(early).result(), X + 2)


def test_another_thread_may_ask(system, nodes):
    part, make = nodes
    count, f = make("count"), make("f")
    found = []
    with held_back(count) as door:
        out = rt.program(lambda x: f(wait_at(count(x), x, part)))(X)
        threads = [
            threading.Thread(target=lambda: found.append(out.result(20.0))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.02)
        door.set()
        for thread in threads:
            thread.join(20)
    assert len(found) == 4
    for array in found:
        np.testing.assert_array_equal(array, X + 1)


@pytest.mark.parametrize("sequential", [False, True])
def test_parallel_and_sequential_dispatch(sequential):
    """In parallel, a dependent is enqueued while what it needs still runs."""
    with rt.Runtime(sequential=sequential) as system:
        devices = system.virtual_devices()
        stages = [rt.computation(slow, devices.add_slice(1), name=f"stage {n}") for n in range(2)]
        program = rt.program(lambda x: stages[1](stages[0](x)))
        x = jnp.eye(400) * 0.5
        program(x).result()
        with rt.recording(system) as recorder:
            out = program(x).result()
        np.testing.assert_allclose(out, slow(slow(x)), rtol=1e-5)
        first, second = (s for s in recorder.spans if s.kind == "node")
        assert (second.sent_began >= first.ended) == sequential


def test_woken_nodes_are_sequential_too():
    with rt.Runtime(sequential=True) as system:
        part = system.virtual_devices().add_slice(1)
        switch = rt.switch(lambda w, rows: rows * w, part, jnp.ones(()), 3, together=1)
        weights = rt.Branches([jnp.float32(n) for n in range(3)])
        rows = np.ones((6, 2), np.float32)
        with rt.recording(system) as recorder:
            out = switch(np.array([1, 2, 3], np.int32), rows, weights)
            np.testing.assert_array_equal(out.result()[:, 0], [0, 1, 1, 2, 2, 2])
        woken = [s for s in recorder.spans if s.woken_by is not None]
        assert len(woken) == 1 + 3  # a copy of the rows, and the branches
        for before, after in itertools.pairwise(woken):
            assert before.ended <= after.sent_began


def test_results_are_the_same_however_they_are_sent():
    def build(system):
        devices = system.virtual_devices()
        a, b = devices.add_slice(1), devices.add_slice(2)
        f = rt.computation(lambda x: jnp.sin(x) + 1, a)
        g = rt.computation(lambda x, y: x @ y, b)
        seen = []

        def program(x):
            y = f(x)
            z = wait_at(y, g(y, y), a, seen=seen)
            return g(z, f(z)), f(g(y, x))

        return rt.program(program)

    x = np.arange(9, dtype=np.float32).reshape(3, 3) / 9
    found = []
    for sequential in (False, True):
        with rt.Runtime(sequential=sequential) as system:
            found.append(jax.tree.map(np.asarray, rt.fetch(build(system)(x))))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
