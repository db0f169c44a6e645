"""Results that take long: limits, warnings, cancelling, awaiting."""

import asyncio
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .islands import held_back, refuse, slow, wait_at

X = np.ones(2, np.float32)


def test_a_result_that_does_not_come_in_time(part, add):
    big = jnp.eye(400) * 0.5
    node = rt.computation(slow, part, name="slow")
    node(big).result()
    value = node(big)
    began = time.monotonic()
    with pytest.raises(rt.RunTimeout, match="node 'slow' of program 'slow' was not there after"):
        value.result(timeout=0.005)
    assert time.monotonic() - began < 5
    with pytest.raises(rt.RunTimeout):
        rt.fetch([value], timeout=0.001)
    assert not value.done()
    assert value.result(timeout=60.0).shape == (400, 400)
    assert add(X).result(timeout=10.0)[0] == 2


def test_the_patience_of_a_runtime(part):
    with rt.Runtime(patience=0.5) as system:
        part = system.virtual_devices().add_slice(1)
        count, add = (rt.computation(lambda x: x + 1, part, name=n) for n in ("count", "add"))
        count.lower(X)
        with held_back(count) as door:
            value = rt.program(lambda x: add(wait_at(count(x), x, part)), name="p")(X)
            with pytest.raises(rt.RunTimeout, match="node 'gate' of program 'p'"):
                value.result()
            door.set()
            assert value.result()[0] == 2


def test_the_watchdog_says_what_is_in_flight():
    with rt.Runtime(watchdog=0.2) as system:
        part = system.virtual_devices().add_slice(1)
        count = rt.computation(lambda x: x, part, name="count")
        count.lower(X)
        with held_back(count) as door:
            value = rt.program(lambda x: count(x), name="p")(X)
            words = r"'local' has ended nothing for 0\.2 s.*'count'"
            with pytest.warns(RuntimeWarning, match=words):
                time.sleep(0.5)
            door.set()
            value.result()


def test_cancelling_what_was_not_sent(system, part, add):
    count = rt.computation(lambda x: x, part, name="count")
    count.lower(X)
    with held_back(count) as door:
        sent, waits = rt.program(lambda x: (add(x), add(wait_at(count(x), x, part))), name="p")(X)
        waits.cancel()
        with pytest.raises(rt.Cancelled, match=r"run .* of program 'p' was cancelled"):
            waits.result()
        assert waits.done()
        assert sent.result()[0] == 2
        door.set()
    done = add(X)
    done.cancel()  # all of it was sent
    assert done.result()[0] == 2


def test_awaiting(part, add):
    count = rt.computation(lambda x: x, part, name="count")
    bad = rt.computation(refuse, part, name="bad")
    count.lower(X)

    async def both(door):
        value = rt.program(lambda x: add(wait_at(count(x), x, part)))(X)
        other = add(X)
        assert (await other)[0] == 2
        threading.Timer(0.05, door.set).start()
        assert [int(x[0]) for x in await asyncio.gather(waited(value), waited(other))] == [2, 2]
        with pytest.raises(rt.NodeError, match="'bad'"):
            await bad(X)

    async def waited(value):
        return await value

    with held_back(count) as door:
        asyncio.run(both(door))


def test_blocking_on_trees_of_futures(part, add):
    tree = {"a": add(X), "b": (add(2 * X), 3)}
    assert jax.block_until_ready(tree) is not None
    assert tree["a"].done()
    bad = rt.computation(refuse, part, name="bad")
    with pytest.raises(rt.NodeError, match="'bad'"):
        jax.block_until_ready([bad(X)])
