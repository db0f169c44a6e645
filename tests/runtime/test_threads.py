"""Threads that get in each other's way: close, release, cancel and ask while others send."""

from __future__ import annotations

import contextlib
import gc
import threading

import jax
import numpy as np
import pytest
from byways.runtime import (
    Branches,
    Cancelled,
    ProgramError,
    Runtime,
    RunTimeout,
    Switch,
    ValueReleased,
    computation,
    program,
)

from .islands import held_back

X = np.ones((8, 4), np.float32)


@pytest.fixture
def system():
    with Runtime(patience=30.0) as made:
        yield made
        gc.collect()
        made.drain()
        assert made.store.live() == 0


def double(x):
    return 2 * x


def threads(*functions):
    """Runs all at once; raises what the first to fail raised."""
    errors = []

    def run(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(f,), daemon=True) for f in functions]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), "hung"
    if errors:
        raise errors[0]


class Bank:
    """Parameters that are fetched by a function of its own."""

    def __init__(self, fetch):
        self.fetch = fetch


def waking(system):
    """A slice, the node that counts, and (x, bank) -> x plus the one branch's parameter."""
    part = system.virtual_devices().add_slice()
    switch = Switch(lambda p, rows: rows + p, part, np.float32(0), 1)
    count = computation(lambda x: (x[:1, 0] > 0).astype(np.int32) * 8, part, name="count")
    count(X).result()
    return part, count, lambda x, bank: switch(count(x), x, bank)


def one(part):
    return jax.device_put(np.float32(1), part.devices[0])


def test_a_client_leaves_while_its_threads_call(system):
    part, _, wake = waking(system)
    wake = program(wake)
    bank = Branches([one(part)])
    wake(X, bank).result()
    for n in range(5):
        client = system.client(f"guest {n}")
        going = threading.Barrier(3)

        def call(client=client, going=going):
            values = []
            with client:
                going.wait()
                with contextlib.suppress(ValueReleased, Cancelled):
                    while True:
                        values.append(wake(X, bank))
                        values[-1].done()
            for value in values:
                with pytest.raises((ValueReleased, Cancelled), match="left"):
                    value.result()

        def leave(client=client, going=going):
            going.wait()
            client.close()

        threads(call, call, leave)
        assert system.store.live() == 0
        assert not client.runs


def test_values_are_released_and_asked_for_by_many(system):
    part, count, wake = waking(system)
    bank = Branches([one(part)])
    for _ in range(10):
        with held_back(count) as door:
            value = program(wake)(X, bank)
        door.clear()
        going = threading.Barrier(4)

        def ask(value=value, going=going):
            going.wait()
            with contextlib.suppress(ValueReleased, Cancelled):
                np.testing.assert_array_equal(value.result(), X + 1)

        def release(value=value, going=going, door=door):
            going.wait()
            door.set()
            value.release()

        def cancel(value=value, going=going):
            going.wait()
            value.cancel()

        threads(ask, ask, release, cancel)
        assert system.store.live() == 0
        with pytest.raises(ValueReleased):
            value.result()


def test_values_die_in_garbage_of_any_thread(system):
    part = system.virtual_devices().add_slice()
    node = computation(double, part)
    node(X).result()

    def drop():
        for _ in range(200):
            ring = [node(X)]
            ring.append(ring)  # only the collector frees it
        gc.collect()

    threads(drop, drop, drop)
    gc.collect()
    assert system.store.live() == 0


def test_what_fetches_may_run_programs_of_the_same_client(system):
    part, _, wake = waking(system)
    make = computation(lambda x: x[0, 0] + 0.0, part)

    def fetch(branches):
        return [make(X).result() for _ in branches]

    np.testing.assert_array_equal(program(wake)(X, Bank(fetch)).result(), X + 1)


def test_what_fetches_may_wait_for_another_thread(system):
    """Others have the island while it waits, or the other thread could never send."""
    part, _, wake = waking(system)
    make = computation(lambda x: x[0, 0] + 0.0, part)
    asked, there, made = threading.Event(), threading.Event(), []

    def fetch(branches):
        asked.set()
        assert there.wait(20)
        return made

    def ask():
        np.testing.assert_array_equal(program(wake)(X, Bank(fetch)).result(), X + 1)

    def help_out():
        assert asked.wait(20)
        with system.client("helper"):
            made.append(make(X).array())
        there.set()

    threads(ask, help_out)


def test_a_node_cannot_wait_for_its_own_result(system):
    _, count, wake = waking(system)
    values = []

    def fetch(branches):
        return [values[0].result()]

    with held_back(count):
        values.append(program(wake)(X, Bank(fetch)))
    with pytest.raises(ProgramError, match="asked for a result that needs the node"):
        values[0].result()


def test_a_wait_for_what_another_thread_sends_has_its_limit(system):
    part, count, wake = waking(system)
    asked, there = threading.Event(), threading.Event()

    def fetch(branches):
        asked.set()
        assert there.wait(20)
        return [one(part)]

    with held_back(count):
        value = program(wake)(X, Bank(fetch))

    def ask():
        np.testing.assert_array_equal(value.result(), X + 1)

    def other():
        assert asked.wait(20)
        with pytest.raises(RunTimeout, match="another thread"):
            value.result(timeout=0.05)
        assert not value.done()
        there.set()

    threads(ask, other)
