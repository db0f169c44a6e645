"""Accounts of bytes, and the budget: what does not fit waits, and says so when it never will."""

import gc
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import held_back, pair, wait_at

X = np.ones(256, np.float32)  # 1 KiB
KIB = 1024


@pytest.fixture
def system():
    with rt.Runtime(memory_budget=12 * KIB, patience=20.0) as made:
        yield made
        gc.collect()
        assert made.store.live() == 0


@pytest.fixture
def part(system):
    return system.virtual_devices().add_slice(1)


@pytest.fixture
def alone(monkeypatch):
    """No other thread, whatever earlier tests have left."""
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread()])


def make(part, kib, name="make"):
    """A computation of so many KiB."""
    return rt.computation(lambda x: jnp.tile(x, kib), part, name=name)


def test_values_are_counted_while_they_are_held(system, part):
    four, two = make(part, 4), make(part, 2)
    first = four(X)
    assert system.store.live() == 4 * KIB
    with system.client("guest"):
        second = two(X)
    assert system.store.live("local") == 6 * KIB
    assert system.store.holders("local") == {"default": 4 * KIB, "guest": 2 * KIB}
    del first
    assert system.store.holders("local") == {"guest": 2 * KIB}
    second.release()
    assert system.store.live() == 0


def test_bytes_on_all_devices_and_islands():
    with pair(2) as system:
        here, there = (system.virtual_devices(name).add_slice(2) for name in ("here", "there"))
        whole = rt.computation(lambda x: x + 1, here)
        spread = rt.computation(
            lambda x: x + 1, there, in_specs=(P("device"),), out_specs=P("device")
        )
        values = rt.program(lambda x: (lambda y: (y, spread(y)))(whole(x)))(X)
        # Replicated on two devices, and halves on two others.
        assert system.store.live("here") == 2 * KIB
        assert system.store.live("there") == KIB
        assert len(values) == 2
        del values
        assert system.store.live() == 0


def test_the_peak_of_a_segment(part):
    """A chain holds two of its values at a time, and in the end one."""
    add = rt.computation(lambda x: x + 1, part)
    plan = rt.program(lambda x: add(add(add(add(x))))).compile(X)
    (segment,) = plan.parts
    assert (segment.peak, segment.change) == (2 * KIB, KIB)
    # All five at once: nothing can be dropped before the sum.
    join = rt.computation(lambda *xs: sum(xs).sum(), part)
    (segment,) = rt.program(lambda x: join(*[add(x) for _ in range(5)])).compile(X).parts
    assert (segment.peak, segment.change) == (5 * KIB + 4, 4)


def test_more_than_the_whole_budget(system, part):
    big, other = make(part, 12, name="big"), make(part, 1, name="other")
    assert big(X).result().shape == (12 * 256,)  # what was let go makes room
    both = rt.program(lambda x: (other(x), big(x)))(X)
    words = "'other … big' makes 13,312 bytes, more than the whole budget of 12,288"
    for value in both:
        with pytest.raises(rt.StoreFull, match=words):
            value.result()
    assert other(X).result().shape == (256,)


@pytest.mark.usefixtures("alone")
def test_a_budget_that_is_held_by_oneself(system, part):
    eight = make(part, 8, name="eight")
    kept = eight(X)
    with pytest.raises(rt.StoreFull) as caught:
        eight(X).result()
    for words in ("node 'eight' needs 8,192 bytes", "12,288", "{'default': 8192}", "release"):
        assert words in str(caught.value)
    assert isinstance(caught.value, MemoryError)
    kept.release()
    assert eight(X).result().shape == (2048,)


def test_waiting_for_what_another_thread_releases(system, part):
    """It is of the same client, and has not called anything."""
    eight = make(part, 8)
    kept = eight(X)
    kept.result()
    threading.Timer(0.2, kept.release).start()
    assert eight(X).result().shape == (2048,)
    assert kept.done()


def test_nobody_waits_for_threads_of_the_runtime(monkeypatch):
    """They live as long as it, and release nothing: the patience would be spent in vain."""
    ended = threading.Event()
    names = ("byways far", "ray_print_logs")
    servants = [threading.Thread(target=ended.wait, name=name, daemon=True) for name in names]
    with rt.Runtime(memory_budget=12 * KIB, patience=600.0) as system:
        for servant in servants:
            servant.start()
        everyone = [threading.current_thread(), *servants]
        monkeypatch.setattr(threading, "enumerate", lambda: everyone)
        eight = make(system.virtual_devices().add_slice(1), 8)
        kept = eight(X)
        with pytest.raises(rt.StoreFull):
            eight(X).result()
        ended.set()
        kept.release()


def test_waiting_for_what_another_client_releases(system, part):
    eight = make(part, 8)
    guest = system.client("guest")
    with guest:
        kept = eight(X)
        kept.result()
    threading.Timer(0.2, kept.release).start()
    began = time.monotonic()
    out = eight(X)
    assert time.monotonic() - began >= 0.15
    assert out.result().shape == (2048,)


def test_the_patience_of_the_store():
    with rt.Runtime(memory_budget=12 * KIB, patience=0.1) as system:
        part = system.virtual_devices().add_slice(1)
        eight = make(part, 8)
        with system.client("guest"):
            kept = eight(X)
        with pytest.raises(rt.StoreFull, match=r"{'guest': 8192}"):
            eight(X).result()
        kept.release()
        eight(X).result()


def test_waiting_ends_when_the_client_leaves(system, part):
    eight = make(part, 8)
    host, guest = system.client("host"), system.client("guest")
    with host:
        kept = eight(X)
    found = []

    def ask():
        try:
            with guest:
                eight(X).result()
        except rt.RuntimeFault as error:
            found.append(type(error))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.1)
    guest.close()
    thread.join(10)
    assert not thread.is_alive()
    assert found in ([rt.ValueReleased], [rt.Cancelled])
    kept.release()


def test_a_waiting_run_of_the_same_client_goes_on_and_makes_room(system, part):
    """It holds 8 KiB until what waits at the read is sent."""
    count, eight = make(part, 1, name="count"), make(part, 8)
    total = rt.computation(lambda x, y: x.sum() + y.sum(), part)
    count.lower(X)
    program = rt.program(lambda x: total(eight(x), wait_at(count(x), x, part)))
    with held_back(count) as door:
        first = program(X)
        assert system.store.live() >= 8 * KIB
        threading.Timer(0.1, door.set).start()
        second = eight(X)
        assert second.result().shape == (2048,)
        assert float(first.result()) == 9 * 256


def test_a_result_that_is_known_early_is_counted_once(system, part):
    count, eight = make(part, 1, name="count"), make(part, 8)
    count.lower(X)
    total = rt.computation(lambda x, y: x.sum() + y.sum(), part)

    @rt.program
    def program(x):
        y = eight(x)
        return y, total(y, wait_at(count(x), x, part))

    with held_back(count) as door:
        y, late = program(X)
        assert y.result().shape == (2048,)
        assert system.store.live() == 8 * KIB + KIB  # and the counts
        y.release()  # the run needs it still
        assert system.store.live() == 8 * KIB + KIB
        door.set()
        assert float(late.result()) == 9 * 256
        assert system.store.live() == 4


def test_a_result_is_not_donated_before_its_own_run_has_used_it(system, part):
    count, two = make(part, 1, name="count"), make(part, 2)
    count.lower(X)
    total = rt.computation(lambda x, y: x.sum() + y.sum(), part)
    take = rt.computation(lambda x: 2 * x, part, donate=(0,))

    @rt.program
    def program(x):
        y = two(x)
        return y, total(y, wait_at(count(x), x, part))

    with held_back(count) as door:
        y, late = program(X)
        threading.Timer(0.05, door.set).start()
        assert take(y).result()[0] == 2
        assert float(late.result()) == 3 * 256


def test_a_failed_run_holds_nothing(system, part):
    two, bad = make(part, 2), make(part, 13, name="bad")
    values = rt.program(lambda x: (bad(two(x)), two(x)))(X)
    system.drain()
    del values
    gc.collect()
    assert system.store.live() == 0


@pytest.mark.usefixtures("alone")
def test_what_conditional_nodes_will_make_waits_for_room(system, part):
    switch = rt.switch(lambda w, rows: rows * w, part, jnp.ones(()), 2)
    weights = rt.Branches([jnp.float32(1), jnp.float32(2)])
    rows = np.ones((16, 256), np.float32)  # 16 KiB
    with pytest.raises(rt.StoreFull, match="'switch' makes 16,384 bytes, more than the whole"):
        switch(np.array([3, 13], np.int32), rows, weights).result()
    kept = make(part, 8)(X)
    fewer = switch(np.array([3, 5], np.int32), rows[:8], weights)  # 8 of 12 KiB are taken
    with pytest.raises(rt.StoreFull, match="'switch' needs 8,192 bytes"):
        fewer.result()
    del kept
    fewer = switch(np.array([3, 5], np.int32), rows[:8], weights)
    assert fewer.result().shape == (8, 256)
    assert system.store.live() == 8 * KIB


def test_what_conditional_nodes_make_is_counted(system, part):
    switch = rt.switch(lambda w, rows: rows * w, part, jnp.ones(()), 2)
    weights = rt.Branches([jnp.float32(1), jnp.float32(2)])
    rows = np.ones((16, 16), np.float32)
    out = switch(np.array([3, 13], np.int32), rows, weights)
    assert out.result().shape == (16, 16)
    assert system.store.live() == KIB
    vg = rt.value_and_grad(rt.program(lambda c, r, w: total(switch(c, r, w))), argnums=2)
    total = rt.computation(lambda x: x.sum(), part)
    value, grads = vg(np.array([3, 13], np.int32), rows, weights)
    assert sorted(grads.result()) == [0, 1]
    del out
    assert system.store.live() == 4 + 2 * 4  # the loss and two gradients of a number each
    assert float(value.result()) == 16 * (3 + 2 * 13)
    del value, grads
    assert system.store.live() == 0
    assert all(not tree.is_deleted() for tree in weights.trees.values())
    assert isinstance(weights.trees[0], jax.Array)
