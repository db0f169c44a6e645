"""Residents: who stays and who leaves, how many bytes live, and that nothing else changes."""

import gc
import re
import weakref
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.runtime import (
    BudgetTooSmall,
    InMemory,
    MappedFile,
    PinnedHost,
    Residents,
    ResidentsClosed,
    UnknownItem,
    write_cold,
)
from byways.runtime.cold import check_pinned
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .resident_items import ITEM, SHAPES, items_of, keys, living, place, until


@pytest.fixture(params=["file", "memory", "pinned"])
def cold(request, tmp_path):
    items = items_of(8)
    if request.param == "file":
        write_cold(tmp_path / "cold", items, items.__getitem__)
        return MappedFile(tmp_path / "cold")
    return InMemory(items) if request.param == "memory" else PinnedHost(items.items(), place)


def test_items_come_bit_for_bit_to_their_devices(cold):
    with Residents(cold, 8 * ITEM, place) as residents:
        found = residents.get(keys(3, 0, 3))
        for key, tree in zip(keys(3, 0, 3), found, strict=True):
            for array, wanted in zip(tree, items_of(8)[key], strict=True):
                assert array.devices() == {jax.devices()[key[1] % 2]}
                assert array.sharding.memory_kind == jax.devices()[0].default_memory().kind
                np.testing.assert_array_equal(array, wanted)
        assert residents.stats().live == residents.stats().fetched == 2 * ITEM
        assert (0, 3) in residents
        assert (0, 1) not in residents


def test_copies_hold_bytes_of_their_own(tmp_path):
    """`device_put` on a CPU makes an aligned view of a mapped file an array that *is* the mapping,
    whatever `may_alias` says: what is fetched must lie elsewhere."""
    items = {(0,): (np.arange(1024, dtype=np.float32),)}
    write_cold(tmp_path / "cold", items, items.__getitem__)
    cold = MappedFile(tmp_path / "cold")
    view = cold.read((0,))[0]
    assert view.ctypes.data % 64 == 0  # else this would prove nothing
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    (plain,) = jax.device_put([view], [one], may_alias=False)
    assert plain.unsafe_buffer_pointer() == view.ctypes.data
    with Residents(cold, 4096, lambda _: one) as residents:
        ((ours,),) = residents.get([(0,)])
        assert not 0 <= ours.unsafe_buffer_pointer() - cold._bytes.ctypes.data < cold._size
        np.testing.assert_array_equal(ours, view)


def test_pinned_copies_hold_bytes_of_their_own():
    cold = PinnedHost(items_of(1).items(), place)
    kept = cold.read((0, 0))[0]
    assert kept.sharding.memory_kind == "pinned_host"
    with Residents(cold, ITEM, place) as residents:
        ((ours, _),) = residents.get(keys(0))
        assert ours.unsafe_buffer_pointer() != kept.unsafe_buffer_pointer()
        residents.clear()
        assert ours.is_deleted()
    np.testing.assert_array_equal(kept, items_of(1)[0, 0][0])


def test_an_evicted_item_frees_its_memory_though_somebody_refers_to_it():
    with Residents(InMemory(items_of(8)), 2 * ITEM, place) as residents:
        found = residents.get(keys(0, 1))
        buffer = weakref.ref(np.asarray(found[0][0]).base)
        residents.get(keys(2, 3))
        assert found[0][0].is_deleted()
        assert living() == 2 * ITEM
        jax.block_until_ready(jax.device_put(1.0))
        gc.collect()
        assert buffer() is None


def test_the_least_recently_used_leaves_first_by_hand():
    """Room for three. 0 1 2 | 0: hit | 3: out goes 1 | 1: out goes 2 | 0: hit | 2: out goes 3."""
    with Residents(InMemory(items_of(8)), 3 * ITEM, place) as residents:
        for n in (0, 1, 2, 0, 3):
            residents.get(keys(n))
        assert [n for n in range(8) if (0, n) in residents] == [0, 2, 3]
        for n in (1, 0, 2):
            residents.get(keys(n))
        assert [n for n in range(8) if (0, n) in residents] == [0, 1, 2]
        stats = residents.stats()
        assert (stats.hits, stats.misses, stats.evictions) == (2, 6, 3)
        assert stats.fetched == 6 * ITEM
        assert stats.peak == stats.live == 3 * ITEM
        assert stats.hit_rate == 0.25
        assert (stats - stats).hit_rate == 1.0


def test_items_asked_for_together_stay_together():
    """1 is the oldest but asked for, so 0 and 2 make room for 3 and 4."""
    with Residents(InMemory(items_of(8)), 3 * ITEM, place) as residents:
        residents.get(keys(1, 0, 2))
        found = residents.get(keys(3, 1, 4))
        assert [n for n in range(8) if (0, n) in residents] == [1, 3, 4]
        assert not any(x.is_deleted() for x in jax.tree.leaves(found))


class AgainstModel(RuleBasedStateMachine):
    """Beside an LRU in ten lines, one thread."""

    def __init__(self):
        super().__init__()
        self.budget = 3 * ITEM
        self.residents = Residents(InMemory(items_of(6)), self.budget, place)
        self.model: OrderedDict = OrderedDict()
        self.hits = self.misses = 0

    @rule(numbers=st.lists(st.integers(0, 5), max_size=3, unique=True))
    def get(self, numbers):
        asked = keys(*numbers)
        found = self.residents.get(asked)
        self.hits += sum(key in self.model for key in asked)
        self.misses += sum(key not in self.model for key in asked)
        for key in asked:
            self.model[key] = self.model.pop(key, None)
        while len(self.model) > 3:
            self.model.popitem(last=False)
        for key, tree in zip(asked, found, strict=True):
            np.testing.assert_array_equal(tree[0], items_of(6)[key][0])

    @rule(number=st.integers(0, 5))
    def used(self, number):
        self.residents.used((0, number), jnp.zeros(()))

    @invariant()
    def agree(self):
        entries = self.residents._book.entries
        assert list(entries) == list(self.model)
        stats = self.residents.stats()
        assert (stats.hits, stats.misses) == (self.hits, self.misses)
        assert stats.live == len(self.model) * ITEM <= self.budget
        assert living() == stats.live

    def teardown(self):
        self.residents.close()
        assert living() == 0


AgainstModel.TestCase.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)
test_against_a_model = AgainstModel.TestCase


@jax.jit
def busy(x, n):
    """Some milliseconds for every thousand rounds, that hold x."""
    return jax.lax.fori_loop(0, n, lambda _, y: jnp.tanh(y @ y.T @ x), x)[0, 0]


def test_memory_that_a_program_still_needs_counts():
    """Two items fit: the third has to wait for the program that was given the first."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    busy(jnp.ones(SHAPES[0]), 1).block_until_ready()
    with Residents(InMemory(items_of(4)), 2 * ITEM, lambda _: one) as residents:
        ((first, _),) = residents.get(keys(0))
        done = busy(first, 100_000)
        residents.used((0, 0), done)
        residents.get(keys(1))
        assert not done.is_ready()
        residents.prefetch(keys(2))  # does not wait, so finds no room
        until(lambda: residents._worker is None)
        assert (0, 2) not in residents
        assert not done.is_ready()
        residents.get(keys(2))
        assert done.is_ready()
        assert first.is_deleted()


def test_a_result_that_was_donated_or_failed_holds_nothing_up():
    with Residents(InMemory(items_of(4)), ITEM, place) as residents:
        residents.get(keys(0))
        result = jnp.ones(3)
        residents.used((0, 0), {"deep": [result]})
        result.delete()
        residents.get(keys(1))
        assert residents.stats().evictions == 1


def test_an_item_that_was_donated_is_fetched_again():
    with Residents(InMemory(items_of(1)), ITEM, place) as residents:
        ((first, _),) = residents.get(keys(0))
        first.delete()
        ((again, _),) = residents.get(keys(0))
        np.testing.assert_array_equal(again, items_of(1)[0, 0][0])
        assert residents.stats().live == ITEM == residents.stats().fetched / 2


def test_an_item_over_several_devices_counts_its_shards():
    """(8,) float32 is 32 bytes: 8 on each of four, or all of it on each of four."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:4]), ("x",))
    spec = jax.sharding.PartitionSpec
    items = {"cut": {"a": np.arange(8.0, dtype=np.float32)}}
    items["whole"] = items["cut"]
    specs = {"cut": spec("x"), "whole": spec()}
    places = {key: jax.sharding.NamedSharding(mesh, s) for key, s in specs.items()}
    with Residents(InMemory(items), 160, places.__getitem__) as residents:
        assert residents.size("cut") == 32
        assert residents.largest == residents.size("whole") == 128
        for tree in residents.get(["cut", "whole"]):
            np.testing.assert_array_equal(tree["a"], items["cut"]["a"])


def test_a_budget_that_is_too_small_says_what_is_needed():
    residents = Residents(InMemory(items_of(4)), 2 * ITEM - 1, place)
    with pytest.raises(BudgetTooSmall, match=r"2 items of 832 bytes .* the budget is 831: make it"):
        residents.get(keys(0, 1))
    with pytest.raises(ValueError, match="a budget of 0 bytes"):
        Residents(InMemory(items_of(1)), 0, place)
    residents.close()


def test_errors_teach():
    residents = Residents(InMemory(items_of(2)), ITEM, place)
    for ask in (residents.get, residents.stream, residents.prefetch):
        with pytest.raises(UnknownItem, match=re.escape("no item (0, 9) among the 2")):
            ask(keys(9))
    with pytest.raises(ValueError, match=re.escape("(0, 0) holds float64, which JAX makes float3")):
        Residents(InMemory(items_of(1, np.float64)), ITEM, place)
    residents.close()
    residents.close()
    for ask in (residents.get, residents.prefetch, lambda k: list(residents.stream(k))):
        with pytest.raises(ResidentsClosed, match="were closed"):
            ask(keys(0))


class Memory:
    def __init__(self, kind):
        self.kind = kind


class Device:
    """With these memories, the first its own."""

    def __init__(self, *kinds):
        self.kinds = kinds

    def addressable_memories(self):
        return [Memory(kind) for kind in self.kinds]

    def default_memory(self):
        return Memory(self.kinds[0])

    def __str__(self):
        return "npu:0"


def test_a_device_without_pinned_memory():
    check_pinned(Device("device", "pinned_host"))
    for kinds in (("device", "unpinned_host"), ("pinned_host",)):
        words = f"npu:0 has the memories {', '.join(kinds)}, and no pinned host memory"
        with pytest.raises(ValueError, match=words):
            check_pinned(Device(*kinds))


def test_what_is_evicted_is_not_taken_from_a_program_in_flight():
    """The first item is evicted while a slow program reads it, and others come in its place."""
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    items = items_of(4)
    want = busy(jnp.asarray(items[0, 0][0]), 20_000)
    with Residents(InMemory(items), ITEM, lambda _: one) as residents:
        ((first, _),) = residents.get(keys(0))
        found = busy(first, 20_000)  # and nobody says `used`
        for n in (1, 2, 3, 1, 2, 3):
            residents.get(keys(n))
        assert not found.is_ready()
        assert first.is_deleted()
        assert found == want
