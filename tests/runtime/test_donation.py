"""Who donates an argument waits for those that were called before and have not used it yet."""

import threading

import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .islands import held_back, pair, wait_at

X = np.ones(4, np.float32)


def ready(computation, arguments=1):
    """Compiled, so that a call takes no longer than a door is shut."""
    computation.lower(*[X] * arguments)
    return computation


@pytest.fixture
def count(part):
    return ready(rt.computation(lambda x: x, part, name="count"))


@pytest.fixture
def take(part):
    return ready(rt.computation(lambda x: x + 1, part, name="take", donate=(0,)))


@pytest.fixture
def late(part, count):
    """A program (x, v) -> x + v whose sum is behind a read of x."""
    total = ready(rt.computation(lambda x, v: x + v, part, name="total"), 2)
    return rt.program(lambda x, v: total(wait_at(count(x), x, part), v), name="late")


def soon(door):
    threading.Timer(0.2, door.set).start()


@pytest.mark.parametrize("kind", ["future", "what a future gave", "array"])
def test_an_argument_is_used_before_it_is_donated(part, count, take, late, kind):
    make = rt.computation(lambda x: 2 * x, part, name="make")
    given = jnp.full(4, 2.0) if kind == "array" else make(X)
    if kind == "what a future gave":
        given = given.array()
    with held_back(count) as door:
        first = late(X, given)
        soon(door)
        second = take(given)
        np.testing.assert_array_equal(first.result(), 3 * X)
        np.testing.assert_array_equal(second.result(), 3 * X)


def test_a_result_that_was_handed_out_is_used_by_its_own_run_first(part, count, take):
    make = rt.computation(lambda x: 2 * x, part, name="make")
    total = rt.computation(lambda x, v: x + v, part, name="total")

    @rt.program
    def both(x):
        v = make(x)
        return v, total(wait_at(count(x), x, part), v)

    with held_back(count) as door:
        v, last = both(X)
        soon(door)
        np.testing.assert_array_equal(take(v.array()).result(), 3 * X)
        np.testing.assert_array_equal(last.result(), 3 * X)


@pytest.mark.parametrize("first", [False, True])
def test_what_shares_memory_with_an_argument_is_used_first(first):
    """A copy to more devices shares what is on the first; made at the call, or in the program."""
    with pair(2) as system:
        devices = system.virtual_devices("here")
        part, wide = devices.add_slice(1), devices.add_slice(2)
        count, take, use = (
            ready(rt.computation(lambda x: x, part, name="count")),
            ready(rt.computation(lambda x: x + 1, part, name="take", donate=(0,))),
            ready(rt.computation(lambda x: 2 * x, part, name="use")),
        )
        total = ready(rt.computation(lambda x, v: x + v, wide, name="total"), 2)

        @rt.program
        def late(x, v):
            used = use(v) if first else x
            return used, total(wait_at(count(x), x, part), v)

        given = part.put(2 * X)
        with held_back(count) as door:
            out = late(X, given)[1]
            soon(door)
            np.testing.assert_array_equal(take(given).result(), 3 * X)
            np.testing.assert_array_equal(out.result(), 3 * X)


def test_rows_of_a_gate_and_parameters_of_branches(part, take):
    gate = rt.Gate(lambda rows, w: rows * w, part, name="gate")
    switch = rt.switch(lambda w, rows: rows * w, part, jnp.ones(()), 2)
    number = rt.computation(lambda x: x[0].astype(jnp.int32) * 4, part, name="number")
    counts = rt.computation(lambda x: x[:2].astype(jnp.int32) * 2, part, name="counts")
    rows, w = part.put(np.ones((4, 2), np.float32)), part.put(np.float32(3))
    bank = rt.Branches([part.put(np.float32(n)) for n in (1, 2)])
    gated = rt.program(lambda x, rows, w: gate(number(x), rows, w))
    switched = rt.program(lambda x, rows, bank: switch(counts(x), rows, bank))
    plain = np.ones((4, 2), np.float32)
    number.lower(X), counts.lower(X)
    with held_back(number) as door, held_back(counts) as other:
        one, two = gated(X, rows, w), switched(X, plain, bank)
        soon(door)
        soon(other)
        taken = take(rows), take(bank.trees[1])
        np.testing.assert_array_equal(one.result(), 3 * plain)
        np.testing.assert_array_equal(two.result(), [[1, 1], [1, 1], [2, 2], [2, 2]])
        np.testing.assert_array_equal(taken[0].result(), 2 * plain)
        assert taken[1].result() == 3


def test_programs_of_other_clients_and_threads_use_it_first(system, part, count, take, late):
    given, found = part.put(2 * X), []
    with held_back(count) as door:
        with system.client("guest"):
            out = late(X, given)
        waits = threading.Thread(target=lambda: found.append(out.result(20.0)))
        waits.start()  # it has the run's lock while it waits for the read
        soon(door)
        np.testing.assert_array_equal(take(given).result(), 3 * X)
        waits.join(20)
        np.testing.assert_array_equal(found[0], 3 * X)
    system.clients["guest"].close()


def test_nobody_waits_for_a_program_that_has_nothing_of_it(part, count, take, late):
    mine, given = part.put(2 * X), part.put(3 * X)
    with held_back(count) as door:
        first = late(X, mine)
        np.testing.assert_array_equal(take(given).result(), 4 * X)
        assert not first.done()
        door.set()
        np.testing.assert_array_equal(first.result(), 3 * X)


def test_what_is_not_used_in_time_is_not_donated():
    with rt.Runtime(patience=0.3) as system:
        part = system.virtual_devices().add_slice(1)
        count = rt.computation(lambda x: x, part, name="count")
        take = rt.computation(lambda x: x + 1, part, name="take", donate=(0,))
        total = rt.computation(lambda x, v: x + v, part, name="total")
        late = rt.program(lambda x, v: total(wait_at(count(x), x, part), v), name="late")
        count.lower(X)
        given = part.put(2 * X)
        with held_back(count) as door:
            first = late(X, given)
            with pytest.raises(rt.RunTimeout, match="'gate' of program 'late' was not there"):
                take(given)
            door.set()
            np.testing.assert_array_equal(first.result(20.0), 3 * X)
        np.testing.assert_array_equal(take(given).result(20.0), 3 * X)
