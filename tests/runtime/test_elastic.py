"""Islands that are lost and start again, that are added, and that are taken away."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import held_back, pair, wait_at

X = np.ones(2, np.float32)


def test_an_island_that_starts_again_has_its_slices_and_not_its_values():
    with pair(2) as system:
        here, there = (system.virtual_devices(name).add_slice(1) for name in ("here", "there"))
        near = rt.computation(lambda x: x + 1, here, name="near")
        far = rt.computation(lambda x: x * 2, there, name="far")
        both = rt.program(lambda x: near(far(x)))
        stood = there.devices
        on_it, beyond = far(X), both(X)
        beyond.result()
        system.lose_island("there")
        for use in (lambda: both(X), on_it.result):
            with pytest.raises(rt.IslandLost, match="island 'there' is lost"):
                use()
        system.restart_island("there")
        assert there.devices == stood
        np.testing.assert_array_equal(both(X).result(), [3, 3])
        np.testing.assert_array_equal(beyond.result(), [3, 3])
        for use in (on_it.result, on_it.array, lambda: near(on_it)):
            with pytest.raises(rt.IslandLost, match=r"'there' is lost, and with it Value.*'far'"):
                use()
        assert on_it.done()
        system.restart_island("there")  # it is there: so it is lost first
        np.testing.assert_array_equal(both(X).result(), [3, 3])
    assert system.store.live() == 0


def test_what_was_under_way_when_the_island_went_is_not_sent_to_the_new_one():
    with pair(1) as system:
        here, there = (system.virtual_devices(name).add_slice(1) for name in ("here", "there"))
        count = rt.computation(lambda x: x, here, name="count")
        far = rt.computation(lambda x: x * 2, there, name="far")
        count.lower(X)
        with held_back(count) as door:
            late = rt.program(lambda x: far(wait_at(count(x), x, here)))(X)
            system.restart_island("there")
            door.set()
            with pytest.raises(rt.IslandLost, match="'there' is lost"):
                late.result()
            assert far(X).result()[0] == 2


def test_slices_stand_where_they_stood():
    with rt.Runtime({"pod": jax.devices()[:4]}) as system:
        devices = system.virtual_devices("pod")
        parts = [devices.add_slice(n) for n in (1, 2, 1)]
        stood = [part.devices for part in parts]
        shift = rt.computation(
            lambda x: x + x.sum(), parts[1], in_specs=(P("device"),), out_specs=P("device")
        )
        shift(jnp.arange(4.0)).result()
        system.restart_island("pod")
        assert [part.devices for part in parts] == stood
        np.testing.assert_array_equal(shift(jnp.arange(4.0)).result(), [6, 7, 8, 9])
        # Of a machine that came back smaller, a slice takes what there is, or waits.
        system.lose_island("pod")
        system.resources.restore("pod", jax.devices()[6:7])
        assert parts[2].devices == (jax.devices()[6],)
        with pytest.raises(rt.SliceError, match="has 1 of the 2 it needs; add devices"):
            parts[1].devices  # noqa: B018
        system.add_device("pod", jax.devices()[7])
        assert parts[1].devices == tuple(jax.devices()[6:8])


def test_bytes_on_a_lost_island_do_not_count_on_the_new_one():
    with rt.Runtime({"pod": jax.devices()[:1]}, memory_budget=1000, patience=2.0) as system:
        part = system.virtual_devices().add_slice(1)
        make = rt.computation(lambda: jnp.zeros(200), part, name="make")
        kept = make()
        assert system.store.live("pod") == 800
        system.restart_island("pod")
        assert system.store.live("pod") == 0
        other = make()  # both would not fit
        assert system.store.live("pod") == 800
        del kept
        gc.collect()
        assert system.store.live("pod") == 800
        assert other.result().shape == (200,)


def test_who_wants_to_know_is_told_once_for_each_loss():
    with pair(1) as system:
        told = []
        forget = system.on_lost(told.append)
        system.on_lost(lambda name: told.append(system.islands[name].lost))
        system.lose_island("there")
        system.lose_island("there")
        assert told == ["there", True]
        system.restart_island("there")
        forget()
        system.lose_island("there")
        assert told == ["there", True, True]

        def ill(name):
            raise KeyError(name)

        system.restart_island("there")
        system.on_lost(ill)
        with pytest.warns(RuntimeWarning, match="told that island 'there' is lost fails: KeyError"):
            system.lose_island("there")


def test_islands_come_and_go():
    found = jax.devices()
    with rt.Runtime({"a": found[:1]}) as system:
        here = system.virtual_devices("a").add_slice(1)
        system.add_island("b", found[1:2])
        there = system.virtual_devices("b").add_slice(1)
        near = rt.computation(lambda x: x + 1, here, name="near")
        far = rt.computation(lambda x: x * 2, there, name="far")
        both = rt.program(lambda x: (near(far(x)), far(x)))
        safe, gone = both(X)
        with pytest.raises(rt.SliceError, match="there is an island 'b': take another name"):
            system.add_island("b", found[2:3])
        with pytest.raises(rt.SliceError, match="is in islands 'b', 'c'"):
            system.add_island("c", found[1:2])
        with pytest.raises(rt.SliceError, match="island 'c' has no devices"):
            system.add_island("c", [])
        assert set(system.islands) == {"a", "b"}
        system.remove_island("b")
        assert set(system.islands) == set(system.schedulers) == {"a"}
        np.testing.assert_array_equal(safe.result(), [3, 3])
        for use in (gone.result, lambda: far(X), lambda: both(X)):
            with pytest.raises(rt.IslandLost, match="'b' is lost"):
                use()
        with pytest.raises(rt.SliceError, match="no island 'b'"):
            system.restart_island("b")
        with pytest.raises(rt.SliceError, match="'a' is the only one"):
            system.remove_island("a")
        system.add_island("b", found[1:2])  # another of that name
        with pytest.raises(rt.IslandLost):
            far(X)
        again = rt.computation(lambda x: x * 2, system.virtual_devices("b").add_slice(1))
        np.testing.assert_array_equal(near(again(X)).result(), [3, 3])
    assert system.store.live() == 0


def test_an_island_goes_when_what_was_called_has_ended():
    with pair(1) as system:
        here, there = (system.virtual_devices(name).add_slice(1) for name in ("here", "there"))
        count = rt.computation(lambda x: x, here, name="count")
        near = rt.computation(lambda x: x + 1, here, name="near")
        far = rt.computation(lambda x: x * 2, there, name="far")
        count.lower(X)
        with held_back(count) as door:
            late = rt.program(lambda x: near(far(wait_at(count(x), x, here))))(X)
            door.set()
            system.remove_island("there")
            assert late.result()[0] == 3
