"""Slices on devices: spread, moved when devices come and go, and programs lowered again then."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from byways import runtime as rt

from .islands import all_devices, held_back, pair, stands_on, wait_at

X = np.ones(4, np.float32)


def runtime(devices):
    return rt.Runtime({"pod": all_devices()[:devices]})


def numbers(part):
    return [all_devices().index(device) for device in part.devices]


def test_slices_go_to_the_least_loaded_devices():
    with runtime(4) as system:
        devices = system.virtual_devices()
        parts = [devices.add_slice(n) for n in (1, 2, 1, 1, 3)]
        # 0; then 1 and 2; then 3; all have one, so 0 again; then the three with one.
        assert [numbers(part) for part in parts] == [[0], [1, 2], [3], [0], [1, 2, 3]]


def test_slices_that_are_gone_are_no_load():
    with runtime(2) as system:
        devices = system.virtual_devices()
        kept = devices.add_slice(1)
        for _ in range(3):
            assert numbers(devices.add_slice(1)) == [1]
        assert numbers(kept) == [0]


def test_islands_share_the_load():
    with pair(2) as system:
        kept = []
        for name in ("here", "there", "here", "there"):
            chosen = system.virtual_devices()
            assert chosen.island.name == name
            kept.append(chosen.add_slice(1))
        assert repr(system) == "Runtime(here: 2, there: 2)"


def test_meshes():
    with runtime(8) as system:
        part = system.virtual_devices().add_slice({"data": 2, "model": 4})
        assert part.size == 8
        assert part.mesh.shape == {"data": 2, "model": 4}
        assert part.sharding(P("model")).shard_shape((8,)) == (2,)
        assert part.sharding().is_fully_replicated
        assert repr(part) == "Slice('pod', 2x4)"
        one = system.virtual_devices().add_slice()
        assert (one.size, one.mesh.axis_names) == (1, ("device",))
        none = system.virtual_devices().add_slice({})
        assert (none.size, none.mesh.axis_names) == (1, ("device",))


def test_programs_are_lowered_again_when_their_mapping_changed_and_only_then():
    with runtime(3) as system:
        devices = system.virtual_devices()
        moving, staying = devices.add_slice(1), devices.add_slice(1)
        node = rt.computation(lambda x: x + 1, moving, name="node")
        other = rt.computation(lambda x: x * 2, staying, name="other")
        both = rt.program(lambda x: other(node(x)))
        only = rt.program(lambda x: other(x))
        plans = both.compile(X), only.compile(X)
        assert stands_on(both(X).array(), staying)
        assert (numbers(moving), numbers(staying)) == ([0], [1])
        assert both.compile(X) is plans[0]

        assert system.remove_device("pod", all_devices()[0]) == [moving]
        assert numbers(moving) == [2]
        assert not plans[0].fresh
        np.testing.assert_array_equal(both(X).result(), 2 * (X + 1))
        assert stands_on(node(X).array(), moving)
        assert node.compiled == 1  # the one for the device that is gone is dropped
        assert both.compile(X) is not plans[0]
        assert only.compile(X) is plans[1]
        assert other.compiled == 1
        assert both.trace(X) is plans[0].graph  # traced once

        # It comes back: nobody moves, the next goes there.
        system.add_device("pod", all_devices()[0])
        assert numbers(moving) == [2]
        assert numbers(devices.add_slice(1)) == [0]


def test_values_outlive_a_move():
    with runtime(2) as system:
        part = system.virtual_devices().add_slice(1)
        add = rt.computation(lambda x: x + 1, part)
        before = add(X)
        system.remove_device("pod", part.devices[0])
        np.testing.assert_array_equal(add(before).result(), X + 2)
        assert system.store.live() == 4 * 4  # what `before` holds


def test_a_slice_waits_for_devices():
    with runtime(2) as system:
        devices = system.virtual_devices()
        part = devices.add_slice(2)
        double = rt.computation(lambda x: 2 * x, part, in_specs=(P("device"),))
        double(X).result()
        assert system.remove_device("pod", all_devices()[1]) == [part]
        words = "no devices any more: island 'pod' has 1 of the 2 it needs; add devices"
        with pytest.raises(rt.SliceError, match=words):
            double(X)
        with pytest.raises(rt.SliceError, match=words):
            part.devices  # noqa: B018
        one = devices.add_slice(1)
        assert numbers(one) == [0]
        system.add_device("pod", all_devices()[5])
        assert numbers(part) == [0, 5]
        np.testing.assert_array_equal(double(X).result(), 2 * X)


def test_devices_that_cannot_come_or_go():
    with pair(1) as system:
        (there,) = system.islands["there"].devices
        with pytest.raises(rt.SliceError, match="belongs to an island already"):
            system.add_device("here", there)
        with pytest.raises(rt.SliceError, match="is not on island 'here'"):
            system.remove_device("here", there)
        with pytest.raises(rt.SliceError, match="no island 'moon'"):
            system.add_device("moon", all_devices()[7])
        with pytest.raises(rt.SliceError, match="no island 'moon'"):
            system.remove_device("moon", all_devices()[0])


def test_a_device_goes_when_what_was_called_has_ended():
    """Also what waits at a conditional node: its nodes were compiled for where its slices stood."""
    with runtime(3) as system:
        devices = system.virtual_devices()
        part, home = devices.add_slice(1), devices.add_slice(1)
        count = rt.computation(lambda c: c, part, name="count")
        switch = rt.switch(lambda w, rows: rows * w, [part, home], jnp.ones(()), 2)
        counts = np.array([2, 2], np.int32)
        count.lower(counts)
        weights = rt.Branches([p.put(jnp.float32(n + 2)) for n, p in enumerate((part, home))])
        merge = rt.computation(rt.merge_branches, part)
        program = rt.program(lambda c, rows, w: merge(switch.parts(count(c), rows, w), c))
        rows = np.ones((4, 2), np.float32)
        with held_back(count) as door:
            out = program(counts, rows, weights)
            assert system.default.runs
            door.set()
            system.remove_device("pod", home.devices[0])
            assert not system.default.runs
        np.testing.assert_array_equal(out.result()[:, 0], [2, 2, 3, 3])
        assert numbers(home) == [2]
        moved = rt.Branches({0: weights.trees[0], 1: home.put(jnp.float32(3))})
        np.testing.assert_array_equal(program(counts, rows, moved).result()[:, 0], [2, 2, 3, 3])


def test_a_waiting_run_is_finished_before_a_device_goes():
    with runtime(2) as system:
        part = system.virtual_devices().add_slice(1)
        add = rt.computation(lambda x: x + 1, part)
        out = rt.program(lambda x: add(wait_at(add(x), x, part)))(X)
        system.remove_device("pod", all_devices()[1])
        np.testing.assert_array_equal(out.result(), X + 1)


def test_the_default_runtime_is_one():
    assert rt.default_runtime() is rt.default_runtime()
    assert set(rt.default_runtime().islands) == {"local"}
