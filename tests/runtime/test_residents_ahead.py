"""Residents fetched ahead, streamed, and shared by threads."""

import re
import threading

import jax
import numpy as np
import pytest
from byways.runtime import (
    ColdFileError,
    InMemory,
    ItemsInUse,
    MappedFile,
    Residents,
    write_cold,
)

from .resident_items import ITEM, Slow, items_of, keys, living, place, until


def test_streams_of_any_length_and_size_keep_to_the_budget_and_one_item():
    with Residents(InMemory(items_of(8)), ITEM, place) as residents:
        most = 0
        for key, tree in residents.stream(keys(*range(8))):
            np.testing.assert_array_equal(tree[1], items_of(8)[key][1])
            most = max(most, living())
        assert most <= 2 * ITEM
        assert residents.stats().peak <= 2 * ITEM
        residents.get(keys(7))
        assert living() == ITEM
    with Residents(InMemory(items_of(8)), 1, place) as residents:
        for key, tree in residents.stream(keys(*range(8))):
            np.testing.assert_array_equal(tree[1], items_of(8)[key][1])
            assert living() == ITEM  # alone: two would be the budget and two items
        assert residents.stats().peak == ITEM


def test_a_stream_fetches_the_next_meanwhile_and_may_be_left():
    cold = Slow(items_of(4))
    with Residents(cold, 2 * ITEM, place) as residents:
        stream = residents.stream(keys(0, 1, 2))
        next(stream)
        until(lambda: (0, 1) in residents)
        assert cold.reads == keys(0, 1)
        stream.close()
        residents.get(keys(2, 3))  # nothing is held by it any more
        assert residents.stats().live == 2 * ITEM


def test_prefetch_does_not_wait_and_get_finds_it():
    cold = Slow(items_of(8))
    cold.gate.clear()
    with Residents(cold, 3 * ITEM, place) as residents:
        residents.prefetch(keys(0, 1))
        until(lambda: cold.reads)  # it was begun, and has not ended
        assert residents.stats().items == 0
        cold.gate.set()
        until(lambda: residents.stats().items == 2)
        residents.get(keys(0, 1))
        assert cold.reads == keys(0, 1)
        # They were fetched for this: two misses, until they are asked for again.
        assert (residents.stats().hits, residents.stats().misses) == (0, 2)
        residents.get(keys(0))
        assert residents.stats().hits == 1


def test_prefetch_takes_no_room_from_what_it_was_asked_for_or_what_is_in_use():
    with Residents(InMemory(items_of(8)), 3 * ITEM, place) as residents:
        residents.get(keys(0))  # in use by us
        residents.prefetch(keys(1, 2, 3, 4))
        until(lambda: residents._worker is None)
        assert [n for n in range(8) if (0, n) in residents] == [0, 1, 2]
        residents.get(keys(3))
        # 0 was the oldest; 1 is what was prefetched, and is found.
        assert [n for n in range(8) if (0, n) in residents] == [1, 2, 3]


def test_what_cannot_be_prefetched_raises_where_it_is_asked_for(tmp_path):
    items = items_of(2)
    write_cold(tmp_path / "cold", items, items.__getitem__)
    with Residents(MappedFile(tmp_path / "cold"), 2 * ITEM, place) as residents:
        with (tmp_path / "cold").open("ab") as file:
            file.write(b"x")
        residents.prefetch(keys(0))
        until(lambda: residents._worker is None)
        for _ in range(2):
            with pytest.raises(ColdFileError, match="length changed"):
                residents.get(keys(0))
        assert residents.stats().live == 0


def test_wide_items_stay_wide_in_every_thread():
    with jax.enable_x64(True):
        residents = Residents(InMemory(items_of(2, np.float64)), 4 * ITEM, place)
    residents.prefetch(keys(0))  # the worker's settings are its own, and so are ours
    until(lambda: residents._worker is None)
    for tree in residents.get(keys(0, 1)):
        assert tree[0].dtype == np.float64
    residents.close()


def test_many_threads_get_what_they_asked_for_within_the_budget():
    items = items_of(8)
    errors, most = [], []
    with Residents(InMemory(items), 5 * ITEM, place) as residents:

        def client(seed):
            rng = np.random.default_rng(seed)
            try:
                for _ in range(30):
                    asked = keys(*rng.choice(8, rng.integers(1, 4), replace=False).tolist())
                    residents.prefetch(keys(int(rng.integers(8))))
                    for key, tree in zip(asked, residents.get(asked), strict=True):
                        np.testing.assert_array_equal(tree[1], items[key][1])
                        residents.used(key, tree[1][:1])
                    most.append(residents.stats().live)
                    for key, tree in residents.stream(asked[:2]):
                        np.testing.assert_array_equal(tree[1], items[key][1])
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors
        assert max(most) <= residents.stats().peak <= 6 * ITEM
        # The threads are gone, and what they held with them.
        residents.get(keys(0, 1, 2, 3, 4))
    assert living() == 0


def test_room_that_nobody_gives_back():
    with Residents(InMemory(items_of(4)), 2 * ITEM, place, patience=0.05) as residents:
        residents.get(keys(0, 1))
        caught = []

        def other():
            with pytest.raises(ItemsInUse, match=re.escape("[(0, 0), (0, 1)]")):
                residents.get(keys(2))
            residents_found = residents.get(keys(1))  # what is there may be shared
            caught.append(residents_found)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
        assert caught
        assert residents.stats().live == 2 * ITEM
