"""Nodes that fail: a clear error, for their dependents alone, and nothing leaked."""

import dataclasses
import gc
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime.graph import Shape
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import OnPurpose, refuse, said_where, wait_at

F32 = Shape((2,), jnp.float32)
X = np.ones(2, np.float32)


def test_a_node_that_fails_poisons_its_dependents_alone(system, part, add):
    bad = rt.computation(refuse, part, name="bad")
    other = rt.computation(lambda x: x * 2, part, name="other")
    after = rt.computation(lambda x, y: x + y, part, name="after")

    @rt.program(name="p")
    def program(x):
        y = bad(add(x))
        z = other(add(x))
        return y, add(after(y, z)), z

    y, dependent, z = program(X)
    np.testing.assert_array_equal(z.result(), [4, 4])
    for value in (y, dependent):
        with pytest.raises(rt.NodeError, match="'bad' of program 'p' on island 'local'") as caught:
            value.result()
        error = caught.value
        assert (error.node, error.program, error.island) == ("bad", "p", "local")
        assert isinstance(error.__cause__, jax.errors.JaxRuntimeError)
        assert "fails on purpose" in str(error)
        assert value.done()
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.node) == (str(error), "bad")
    with pytest.raises(rt.NodeError, match="'bad' of program 'p'"):
        add(y)
    # The same program goes on with better numbers, and so do others.
    np.testing.assert_array_equal(program(-2 * X)[1].result(), [-2, -2])


def test_an_error_that_is_kept_holds_no_arrays(system, part, add):
    bad = rt.computation(refuse, part, name="bad")
    program = rt.program(lambda x: (add(x), bad(add(x))))
    good, value = program(X)
    kept = []
    for _ in range(2):
        try:
            value.result()
        except rt.NodeError as error:
            kept.append(error)
    assert [len(said_where(error)) for error in kept] == [1, 1]
    gc.disable()
    try:
        del good, value
        system.drain()
        assert system.store.live() == 0
    finally:
        gc.enable()


def test_an_error_that_shows_later_names_its_node_too(part, add, monkeypatch):
    """As on a GPU: the arrays are given, and fail when they are waited for."""

    class Late:
        nbytes = 8

        def is_deleted(self):
            return False

        def is_ready(self):
            return True

        def block_until_ready(self):
            raise OnPurpose("late")

    def lately(*_):
        return [Late()]

    bad, after = (rt.computation(lambda x: x, part, name=name) for name in ("bad", "after"))
    for one in (bad, after):
        flat, found = one.lower(X)
        for key in flat._executables:
            flat._executables[key] = dataclasses.replace(found, call=lately)
    first, second, good = rt.program(lambda x: (bad(x), after(bad(x)), add(x)), name="p")(X)
    for value in (second, first):
        with pytest.raises(rt.NodeError, match=r"'bad' of program 'p'.*OnPurpose: late") as caught:
            value.result()
        assert isinstance(caught.value.__cause__, OnPurpose)
    assert good.result()[0] == 2


def test_a_node_that_does_not_compile(system, add):
    part = system.virtual_devices().add_slice(2)
    uneven = rt.computation(lambda x: x, part, name="uneven", in_specs=(P("device"),))
    with pytest.raises(rt.NodeError, match="'uneven' of program 'p' on island 'local'") as caught:
        rt.program(lambda x: uneven(add(x)), name="p")(np.ones(3, np.float32))
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_conditional_node_that_fails(part, add):
    def expand(wake, read, inputs):
        raise OnPurpose("in the expansion")

    def program(x):
        from byways.runtime.conditional import Conditional
        from byways.runtime.tracing import builder

        (y,) = builder().conditional(Conditional("choose", 1, expand), part, [x, x], [F32])
        return add(y), add(x)

    bad, good = rt.program(program, name="p")(X)
    assert good.result()[0] == 2
    with pytest.raises(rt.NodeError, match=r"'choose' of program 'p' .*in the expansion") as caught:
        bad.result()
    assert isinstance(caught.value.__cause__, OnPurpose)


def test_a_read_that_fails_stops_no_other(part, add):
    """Two conditional nodes; the first reads what failed, and who asks is the second's."""
    bad = rt.computation(refuse, part, name="bad")

    @rt.program(name="p")
    def program(x):
        return wait_at(bad(x), x, part, "one"), add(wait_at(add(x), x, part, "two"))

    first, second = program(X)
    np.testing.assert_array_equal(second.result(), [2, 2])
    with pytest.raises(rt.NodeError, match="'bad'"):
        first.result()


def test_numbers_that_are_not_finite():
    with rt.Runtime(checks=True) as system:
        part = system.virtual_devices().add_slice(1)
        root = rt.computation(lambda x: (jnp.sqrt(x), x), part, name="root")
        add = rt.computation(lambda x: x + 1, part)
        program = rt.program(lambda x: add(root(x)[0]), name="p")
        assert program(X).result()[0] == 2
        with pytest.raises(rt.NotFiniteError, match=r"'root' of program 'p'.*output 0 is not fin"):
            program(-X).result()
        switch = rt.switch(lambda w, rows: rows / w, part, jnp.ones(()), 2, name="experts")
        weights = rt.Branches([jnp.ones(()), jnp.zeros(())])
        counts = np.array([2, 0], np.int32)
        rows = np.ones((2, 3), np.float32)
        assert switch(counts, rows, weights).result().shape == (2, 3)
        with pytest.raises(rt.NotFiniteError, match="experts 1 of 2"):
            switch(counts[::-1].copy(), rows, weights).result()
    assert system.store.live() == 0


def test_an_interrupt_between_nodes(system, part, add):
    def interrupt(x):
        raise KeyboardInterrupt

    node = rt.computation(lambda x: x, part, name="node")
    flat, found = node.lower(X)
    for key in flat._executables:
        flat._executables[key] = dataclasses.replace(found, call=interrupt)
    with pytest.raises(KeyboardInterrupt):
        rt.program(lambda x: (add(x), node(x)))(X)
    assert add(X).result()[0] == 2
