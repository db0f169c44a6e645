"""Rows of a batch that requests enter and leave: each makes what it makes alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from byways.models import (
    Entry,
    MoeConfig,
    Palm,
    PalmConfig,
    empty_slot,
    empty_slots,
    fill_slot,
    generate,
    read_prompt,
    run_slots,
    step_slots,
)
from byways.models.sampling import sample, sample_each

TINY = PalmConfig(vocab_size=13, width=8, hidden=16, depth=2, heads=2, head_size=6, max_length=16)
SPARSE = dataclasses.replace(TINY, moe=MoeConfig(n=1, num_experts=3, selected=2))
BOTH = pytest.mark.parametrize("config", [TINY, SPARSE], ids=["dense", "sparse"])
ROOM = 16


@functools.cache
def initialised(config):
    return jax.jit(Palm(config).init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))


@functools.cache
def compiled(config):
    params = initialised(config)
    return (
        jax.jit(functools.partial(read_prompt, config, params)),
        jax.jit(fill_slot),
        jax.jit(functools.partial(step_slots, config, params)),
    )


def enter(config, slots, row, prompt, steps, *, seed=0, temperature=0.0, top_k=None, end=None):
    """A prompt read, padded to 8, and put into a row; its first token."""
    read, fill, _ = compiled(config)
    data = jax.random.key_data(jax.random.split(jax.random.key(seed), steps))
    keys = np.zeros((ROOM, data.shape[1]), np.uint32)
    keys[:steps] = data
    tokens = np.zeros(8, np.int32)
    tokens[: len(prompt)] = prompt
    top = config.vocab_size if top_k is None else top_k
    heat = np.float32(temperature)
    memory, first = read(tokens, np.int32(len(prompt)), np.int32(top), heat, keys[0])
    last = -1 if end is None else end
    left = 0 if int(first) == last else steps - 1
    numbers = np.array([row, first, len(prompt), 1, left, last, top], np.int32)
    return fill(slots, memory, Entry(numbers, heat, keys)), int(first)


def alone(config, prompt, steps, *, seed=0, **how):
    """What `generate` makes of one prompt, up to its end."""
    made = generate(
        config,
        initialised(config),
        jnp.array([prompt], jnp.int32),
        steps=steps,
        key=jax.random.key(seed),
        **how,
    )
    found, end = np.asarray(made)[0].tolist(), how.get("end")
    return found[: found.index(end) + 1] if end in found else found


@pytest.mark.parametrize(
    "config", [TINY, pytest.param(SPARSE, marks=pytest.mark.slow)], ids=["dense", "sparse"]
)
def test_rows_that_come_and_go_make_what_they_make_alone(config):
    requests = [
        ([3, 1, 4, 1, 5], 6, {}),
        ([9], 9, {"temperature": 1.0, "seed": 3}),
        ([2, 7], 4, {"temperature": 0.7, "top_k": 3, "seed": 4}),
        ([5, 3, 5, 8, 9, 7, 9], 8, {"temperature": 2.0, "top_k": 5, "seed": 5}),
    ]
    # An end that comes early, for one more.
    made = alone(config, [6, 6], 8)
    requests.append(([6, 6], 8, {"end": made[3]}))
    slots, where, found = empty_slots(config, 3, ROOM), {}, {}
    step = compiled(config)[2]
    waiting = list(enumerate(requests))
    for turn in range(40):
        # One enters at every second turn, where a row is free.
        free = [row for row in range(3) if row not in where]
        if waiting and free and turn % 2 == 0:
            number, (prompt, steps, how) = waiting.pop(0)
            slots, first = enter(config, slots, free[-1], prompt, steps, **how)
            where[free[-1]], found[number] = number, [first]
        slots, told = step(slots)
        for row, token in enumerate(np.asarray(told).tolist()):
            if token >= 0:
                found[where[row]].append(token)
            else:
                where.pop(row, None)
    for number, (prompt, steps, how) in enumerate(requests):
        assert found[number] == alone(config, prompt, steps, **how), number


@BOTH
def test_neighbours_do_not_matter(config):
    """What a row remembers is the same with and without others: to the bit, if it is dense."""
    step = compiled(config)[2]
    single, _ = enter(config, empty_slots(config, 4, ROOM), 1, [3, 1, 4], 9)
    full, _ = enter(config, empty_slots(config, 4, ROOM), 1, [3, 1, 4], 9)
    full, _ = enter(config, full, 0, [7, 7, 7, 7, 7], 9, temperature=1.0)
    full, _ = enter(config, full, 3, [2], 3)
    for _ in range(6):
        single, told_single = step(single)
        full, told_full = step(full)
        assert told_single[1] == told_full[1]
    near = {"atol": 1e-6, "rtol": 1e-5} if config.moe_layers else {"atol": 0, "rtol": 0}
    for one, other in zip(single.caches, full.caches, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_allclose(mine[1, :9], theirs[1, :9], **near)


def test_steps_that_are_sent_as_one_are_those_that_are_sent_one_by_one():
    step, slots = compiled(TINY)[2], empty_slots(TINY, 2, ROOM)
    slots, _ = enter(TINY, slots, 0, [3, 1, 4], 9, temperature=1.0)
    slots, _ = enter(TINY, slots, 1, [2], 3)
    one, found = slots, []
    for _ in range(4):
        one, told = step(one)
        found.append(told)
    four, told = jax.jit(functools.partial(run_slots, TINY, initialised(TINY), steps=4))(slots)
    np.testing.assert_array_equal(told, np.stack(found))
    assert told[2, 1] == -1  # its three tokens are made
    for mine, theirs in zip(four[1:], one[1:], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_garbage_in_free_rows_changes_nothing_and_a_row_can_be_taken_back():
    step = compiled(SPARSE)[2]
    slots, _ = enter(SPARSE, empty_slots(SPARSE, 2, ROOM), 0, [3, 1, 4], 9)
    ill = jax.tree.map(lambda cache: cache.at[1].set(jnp.nan), slots.caches)
    bad = slots._replace(caches=ill, counters=slots.counters.at[1, 0].set(5))
    for _ in range(3):
        slots, told = step(slots)
        bad, also = step(bad)
        np.testing.assert_array_equal(told, also)
    gone = jax.jit(empty_slot)(slots, jnp.int32(0))
    after, told = step(gone)
    assert (np.asarray(told) == -1).all()
    np.testing.assert_array_equal(after.counters, gone.counters)


def test_each_row_draws_as_it_would_alone():
    logits = jax.random.normal(jax.random.key(0), (5, 13)).astype(jnp.float32)
    keys = jax.random.split(jax.random.key(1), 5)
    heat, top = jnp.array([0.0, 1.0, 0.5, 2.0, 1.0]), jnp.array([13, 13, 3, 1, 13])
    found = sample_each(keys, logits, heat, top)
    assert found[0] == jnp.argmax(logits[0])
    for row in range(1, 5):
        k = None if top[row] == 13 else int(top[row])
        assert found[row] == sample(keys[row], logits[row : row + 1], heat[row], k)[0]
    greedy = sample_each(keys, logits, jnp.zeros(5), top)
    np.testing.assert_array_equal(greedy, jnp.argmax(logits, axis=-1))
