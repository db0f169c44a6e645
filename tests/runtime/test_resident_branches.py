"""A switch whose branches come on demand."""

import jax
import numpy as np
import pytest
from byways.runtime import InMemory, ResidentBranches, Residents

from byways import runtime as rt

BRANCHES, WIDTH = 4, 3
ITEM = 4 * WIDTH


def scale(params, rows):
    return rows * params


def parts_of(slices):
    weights = {("a", b): np.full(WIDTH, b + 2, np.float32) for b in range(BRANCHES)}
    switch = rt.Switch(
        scale, slices, jax.ShapeDtypeStruct((WIDTH,), np.float32), BRANCHES, together=1
    )
    place = lambda key: slices[key[1] % len(slices)].sharding()  # noqa: E731
    return switch, InMemory(weights), place


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("room", [1, 4])
def test_branches_are_fetched_when_they_wake(devices, room):
    """Rows of branch b come back times b + 2; branch 1 sleeps and is never fetched."""
    system = rt.Runtime({"local": jax.devices()[:devices]})
    slices = [system.virtual_devices().add_slice(1) for _ in range(devices)]
    switch, cold, place = parts_of(slices)
    with Residents(cold, room * ITEM, place) as residents:
        bank = ResidentBranches(residents, "a")
        assert repr(bank) == "ResidentBranches('a')"
        rows = np.ones((8, WIDTH), np.float32)
        for _ in range(3):
            out = switch(np.array([2, 0, 3, 3], np.int32), rows, bank).result()
            np.testing.assert_array_equal(out[:, 0], [2, 2, 4, 4, 4, 5, 5, 5])
        stats = residents.stats()
        assert ("a", 1) not in residents
        # Three are awake, three times: with room for all they are fetched once, with room for one
        # every time.
        assert stats.fetched == ITEM * (3 if room == 4 else 9)
        assert stats.hits == (6 if room == 4 else 0)
        assert stats.peak <= room * ITEM
    system.close() if hasattr(system, "close") else None


def test_branches_on_demand_are_not_differentiated():
    system = rt.Runtime({"local": jax.devices()[:1]})
    switch, cold, place = parts_of([system.virtual_devices().add_slice(1)])
    counts = np.array([2, 0, 3, 3], np.int32)
    total = rt.computation(lambda x: x.sum(), switch.slices[0])

    @rt.program
    def loss(rows, bank):
        return total(switch(counts, rows, bank))

    with Residents(cold, 4 * ITEM, place) as residents:
        value, _ = rt.value_and_grad(loss, 0)(
            np.ones((8, WIDTH), np.float32), ResidentBranches(residents, "a")
        )
        with pytest.raises(rt.ProgramError, match="on demand, and would be gone when their grad"):
            value.result()


def test_a_bank_says_how_it_fetches():
    with pytest.raises(rt.ProgramError, match="OnDemand does not say how"):
        rt.OnDemand().fetch([0])
