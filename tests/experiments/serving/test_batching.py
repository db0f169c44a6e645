"""What was on an island that is lost for good holds nobody up, turn by turn."""

import jax
import pytest
from byways.experiments.serving.batching import Batching
from byways.experiments.serving.generation import Generation, Wanted
from byways.experiments.serving.keys import request_keys

from byways import runtime as rt

from .decoders import DENSE, alone, initialised

PROMPTS = [[n + 1, 2 * n + 1] for n in range(8)]
STEPS = 3
ENOUGH = 2_000  # turns, by far: each may wait for what is on its way


@pytest.fixture
def places():
    """A runtime of islands of a device each, and a maker of a batching on them."""
    with rt.Runtime({f"island{n}": [device] for n, device in enumerate(jax.devices())}) as system:
        slices = [system.virtual_devices(name).add_slice(1) for name in system.islands]

        def make(readers, writers, steps=STEPS):
            read, write = slices[:readers], slices[readers : readers + writers]
            how = {"rows": 1, "room": DENSE.max_length, "ahead": 4, "retries": 3}
            made = Batching(DENSE, initialised(DENSE), read, write, told=lambda _: None, **how)
            asked = [Wanted(tuple(prompt), steps) for prompt in PROMPTS]
            generations = [Generation(n, one, request_keys(one)) for n, one in enumerate(asked)]
            for generation in generations:
                made.add(generation)
            return made, generations

        yield system, make


def turn_until(batching, there):
    for _ in range(ENOUGH):
        if there():
            return
        if not batching.turn():
            batching.wait(0.05)
    raise AssertionError(f"after {ENOUGH} turns it is not there: nothing moves any more")


def test_prompts_on_lost_islands_do_not_keep_others_from_being_read(places):
    system, make = places
    batching, generations = make(3, 2)
    batching.turn()
    assert [len(reader.pending) for reader in batching.readers] == [2, 2, 1]
    for name in ("island0", "island1", "island3"):  # a reader and a writer are left
        system.lose_island(name)
    turn_until(batching, lambda: all(generation.done for generation in generations))
    for generation, prompt in zip(generations, PROMPTS, strict=True):
        assert generation.result(0) == alone(DENSE, prompt, STEPS)
    assert batching.idle


def test_what_a_lost_island_had_is_neither_waited_for_nor_told_twice(places):
    system, make = places
    batching, generations = make(2, 2, steps=20)
    turn_until(batching, lambda: batching.readers[0].pending and batching.writers[0].sent)
    for name in ("island0", "island2"):
        system.lose_island(name)
    batching.turn()
    found = [generation.number for generation in batching.unfinished()]
    assert sorted(found) == [one.number for one in generations if not one.done]
    lost = batching.readers[0], batching.writers[0]
    assert not any(place.alive or place.lost() for place in lost)
    turn_until(batching, lambda: all(generation.done for generation in generations))
    assert batching.idle
