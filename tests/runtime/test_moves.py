"""Values that go from slice to slice: who may donate what, what fails with what, who waits."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from byways.runtime import (
    Branches,
    NodeError,
    Switch,
    computation,
    fetch,
    program,
    while_loop,
)
from byways.runtime.waiting import is_partly_gone
from jax.sharding import PartitionSpec

from byways import runtime as rt

from .islands import OnPurpose, refuse

ROWS = PartitionSpec("device")
X = np.arange(32, dtype=np.float32).reshape(8, 4)


def double(x):
    return 2 * x


def add(x, y):
    return x + y


@pytest.fixture
def system():
    with rt.Runtime(patience=30.0) as made:
        yield made


@pytest.fixture
def devices(system):
    return system.virtual_devices()


def steps(plan):
    return [step for part in plan.parts for step in getattr(part, "steps", ())]


@pytest.mark.parametrize("spec", [None, ROWS], ids=["whole", "spread"])
def test_a_conditional_node_takes_what_another_slice_made(devices, spec):
    wide, small = devices.add_slice(4), devices.add_slice()
    make = computation(double, wide, in_specs=spec, out_specs=spec)
    switch = Switch(lambda p, rows: rows + p, small, np.float32(0), 2)
    bank = Branches([small.put(np.float32(n)) for n in (1, 2)])
    after = computation(add, wide)

    @program
    def both(x, counts, bank):
        y = make(x)
        # The switch works in place on its copy, which may share memory with `y`: that lives on.
        return after(switch(counts, y, bank), y)

    found = both(X, np.array([3, 5], np.int32), bank).result()
    added = np.array([1] * 3 + [2] * 5, np.float32)[:, None]
    np.testing.assert_array_equal(found, 4 * X + added)


def test_copies_of_one_batch_fail_apart(devices):
    """`add` fails with what `bad` fails; the copy of x that went with it serves `double` all the
    same."""
    here, there = devices.add_slice(), devices.add_slice()
    bad, well = computation(refuse, here), computation(double, here)
    sums, twice = computation(add, there), computation(double, there)

    @program
    def both(x):
        y = well(x)
        return sums(bad(x), y), twice(y)

    plan = both.compile(X)
    assert [len(step.inputs) for step in steps(plan) if step.transfer] == [2]
    failing, right = both(X)
    np.testing.assert_array_equal(right.result(), 4 * X)
    with pytest.raises(NodeError, match=OnPurpose.__name__):
        failing.result()
    jax._src.dispatch.runtime_tokens.clear()  # else JAX tells of it when the process ends


def test_what_waits_for_a_read_does_not_hold_up_what_goes_with_it(devices):
    here, there = devices.add_slice(), devices.add_slice()
    switch = Switch(lambda p, rows: rows + p, here, np.float32(0), 1)
    bank = Branches([here.put(np.float32(1))])
    first, sums = computation(double, here), computation(add, there)
    twice = computation(double, there)

    @program
    def both(x, counts, bank):
        y = first(x)
        return sums(switch(counts, y, bank), y), twice(y)

    counts = np.array([8], np.int32)
    plan = both.compile(X, counts, bank)
    static = [step for part in plan.parts if not part.needs for step in getattr(part, "steps", ())]
    # y is made and moved, and doubled, before the counts are read.
    assert [step.transfer for step in static] == [False, True, False]
    found = fetch(both(X, counts, bank))
    np.testing.assert_array_equal(found[0], 4 * X + 1)
    np.testing.assert_array_equal(found[1], 4 * X)


@pytest.mark.parametrize("to", ["columns", "whole", "one device", "four others"])
def test_what_is_spread_is_spread_anew_by_a_node_and_nobody_waits(devices, to):
    """`device_put` would wait for the array, and go through the host: it may only be given what
    has all that the target needs in one place."""
    wide, others, small = devices.add_slice(4), devices.add_slice(4), devices.add_slice()
    make = computation(double, wide, in_specs=ROWS, out_specs=ROWS)
    part, spec = {
        "columns": (wide, PartitionSpec(None, "device")),
        "whole": (wide, None),
        "one device": (small, None),
        "four others": (others, None),
    }[to]
    take = computation(double, part, in_specs=spec)
    both = program(lambda x: take(make(x)))
    (gangs,) = [part.gangs for part in both.compile(X).parts]
    assert gangs == (2 if to == "one device" else 3)  # with the one between
    np.testing.assert_array_equal(both(X).result(), 4 * X)


def test_one_donated_shard_is_no_failure(system, devices):
    """A copy to one device shares a shard of a whole array; donating it takes that shard alone."""
    wide, small = devices.add_slice(2), [devices.add_slice() for _ in range(8)]
    second = wide.devices[1]
    (part,) = [s for s in small if s.devices == (second,)]
    make, take = computation(double, wide), computation(double, part, donate=(0,))
    after = computation(double, wide)

    @program
    def both(x):
        y = make(x)
        return after(y), take(y)

    found = fetch(both(X))
    system.drain()
    for array in found:
        np.testing.assert_array_equal(array, 4 * X)


def test_of_an_array_one_shard_may_be_gone():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("device",))
    whole = jax.device_put(X, jax.sharding.NamedSharding(mesh, PartitionSpec()))
    alias = jax.device_put(whole, jax.devices()[1])
    jax.jit(double, donate_argnums=0)(alias)
    assert not whole.is_deleted()  # JAX looks at the first shard
    assert is_partly_gone(whole)


def test_a_loop_without_a_turn_does_not_pass_its_input_on(devices):
    part = devices.add_slice()
    make = computation(double, part)
    below, body = computation(lambda x: x[0, 0] > 1e6, part), computation(double, part)
    take = computation(double, part, donate=(0,))

    @program
    def both(x):
        y = make(x)
        return while_loop(below, body, y, bound=3), take(y)

    found = fetch(both(X))
    np.testing.assert_array_equal(found[0], 2 * X)
    np.testing.assert_array_equal(found[1], 4 * X)


def test_two_slices_of_a_switch_on_one_device():
    """What is moved to the second slice is no copy, and must not be worked on in place."""
    with rt.Runtime({"one": jax.devices()[:1]}, patience=30.0) as system:
        devices = system.virtual_devices()
        slices = [devices.add_slice(), devices.add_slice()]
        switch = Switch(lambda p, rows: rows * p + 1, slices, np.float32(0), 4, together=2)
        bank = Branches([slices[0].put(np.float32(n)) for n in range(4)])
        both = program(lambda x, counts, bank: (switch(counts, x, bank), x))
        counts = np.array([2, 2, 2, 2], np.int32)
        x = slices[0].put(X)
        found, same = fetch(both(x, counts, bank))
        np.testing.assert_array_equal(found, X * np.repeat(range(4), 2)[:, None] + 1)
        np.testing.assert_array_equal(same, X)
        np.testing.assert_array_equal(np.asarray(x), X)
