"""Values, clients and islands that are gone: nothing hangs, and nothing is leaked."""

import jax.numpy as jnp
import numpy as np
import pytest

from byways import runtime as rt

from .islands import held_back, pair, wait_at

X = np.ones(2, np.float32)


def test_use_after_release(add):
    value = add(X)
    value.release()
    value.release()
    assert value.done()
    for use in (value.result, value.array, lambda: add(value), lambda: np.asarray(value)):
        with pytest.raises(rt.ValueReleased, match=r"Value\(float32\[2\] of node 'add'.*released"):
            use()


def test_a_client_that_leaves_without_releasing(system, part):
    count = rt.computation(lambda x: x, part, name="count")
    big = rt.computation(lambda x: jnp.broadcast_to(x, (1000, 2)), part)
    count.lower(X)
    client = system.client("guest")
    with held_back(count), client:
        held = [big(X) for _ in range(3)]
        waits = rt.program(lambda x: big(wait_at(count(x), x, part)))(X)
        assert system.store.holders("local")["guest"] >= 3 * 8000
        assert client.runs
        client.close()
        assert system.store.holders("local") == {}
        assert not client.runs
        for value in (*held, waits):
            with pytest.raises(rt.ValueReleased, match="its client 'guest' left"):
                value.result()
        with pytest.raises(rt.ValueReleased, match="'guest' has left: make another"):
            big(X)
    assert big(X).result().shape == (1000, 2)  # others go on
    with pytest.raises(rt.ValueReleased, match="has left"), client:
        pass
    assert system.client("guest") is not client


def test_a_runtime_that_was_closed():
    with rt.Runtime() as system:
        part = system.virtual_devices().add_slice(1)
        add = rt.computation(lambda x: x + 1, part)
        value = add(X)
    system.close()
    with pytest.raises(rt.ValueReleased, match="'default' left"):
        value.result()
    with pytest.raises(rt.ValueReleased, match="'default' has left"):
        add(X)


def test_a_loop_that_drops_its_results_holds_nothing(system, part, add):
    for _ in range(30):
        add(X)
    system.drain()
    assert system.store.live() == 0
    # Also where a run waits, and nobody will ask for its results.
    count = rt.computation(lambda x: x, part, name="count")
    count.lower(X)
    with held_back(count):
        rt.program(lambda x: add(wait_at(count(x), x, part)))(X)
        assert system.default.runs
        system.poll()
        assert not system.default.runs
        assert system.store.live() == 0


# Islands that are lost.


def test_an_island_that_is_lost_while_programs_run():
    with pair(1) as system:
        here, there = (system.virtual_devices(name).add_slice(1) for name in ("here", "there"))
        count = rt.computation(lambda x: x, here, name="count")
        near = rt.computation(lambda x: x + 1, here, name="near")
        far = rt.computation(lambda x: x * 2, there, name="far")
        count.lower(X)

        @rt.program(name="p")
        def program(x):
            y = wait_at(count(x), x, here)
            left = far(x)
            return near(y), far(near(y)), near(wait_at(count(x), left, here)), left

        with held_back(count) as door:
            safe, needs, took, left = program(X)
            alone = near(X)
            system.lose_island("there")
            door.set()
            np.testing.assert_array_equal(safe.result(), [2, 2])
            np.testing.assert_array_equal(alone.result(), [2, 2])
            for value in (needs, left):
                with pytest.raises(rt.IslandLost, match="'there' is lost"):
                    value.result()
            assert took.result()[0] == 3  # the copy was here already
            with pytest.raises(rt.IslandLost):
                far(X)
            with pytest.raises(rt.IslandLost, match="take another"):
                system.virtual_devices("there").add_slice(1)
            with pytest.raises(rt.IslandLost):
                near(left)
            assert system.virtual_devices().island.name == "here"
            assert near(X).result()[0] == 2
        with pytest.raises(rt.SliceError, match="no island 'moon'"):
            system.lose_island("moon")
    assert system.store.live() == 0
