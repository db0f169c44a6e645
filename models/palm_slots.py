"""Generation in slots: rows of one batch that requests enter and leave, each by itself.

A step makes a token for every row that has some left to make, and touches no other; whether a row
is done is found on the device, so that whoever runs the steps may run ahead of what it has read.
What a row makes is what `generate` makes of its prompt alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from .causal_attention import KeyValues
from .palm import Palm, empty_caches
from .palm_config import PalmConfig
from .sampling import sample_each


class Slots(NamedTuple):
    """S rows with room for R tokens each; no dataclass, since its leaves may be futures.

    Attributes:
        caches: of each block the keys (S, R, F) and the values (S, R, F) of all rows.
        counters: of each row the token made last, which is not read yet; its position; how many
            tokens were made of the request; and how many are still to be made, 0 in a row that
            nobody has or that is done.
        limits: the token that ends the request, -1 is none; and `top_k`, see `sample_each`.
        temperature: see `sample_each`.
        keys: the data of a key for each token of the request.
    """

    caches: tuple[tuple[Array, Array], ...]
    counters: Int[Array, "S 4"]
    limits: Int[Array, "S 2"]
    temperature: Float[Array, " S"]
    keys: UInt32[Array, "S R W"]


class Entry(NamedTuple):
    """What a row is filled with, but for keys and values.

    Attributes:
        numbers: the row, its four counters and its two limits.
        temperature: see `sample_each`.
        keys: as of `Slots`.
    """

    numbers: Int[Array, " 7"]
    temperature: Float[Array, ""]
    keys: UInt32[Array, "R W"]


def empty_slots(config: PalmConfig, rows: int, room: int) -> Slots:
    """All rows free.

    Args:
        config: of the model.
        rows: S.
        room: R, tokens of a prompt and of what is made of it.
    """
    width = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape[0]
    return Slots(
        tuple((c.key, c.value) for c in empty_caches(config, rows, room)),
        jnp.zeros((rows, 4), jnp.int32),
        jnp.tile(jnp.array([-1, config.vocab_size], jnp.int32), (rows, 1)),
        jnp.zeros((rows,), jnp.float32),
        jnp.zeros((rows, room, width), jnp.uint32),
    )


def read_prompt(
    config: PalmConfig,
    params: Any,
    tokens: Int[Array, " N"],
    length: Int[Array, ""],
    top_k: Int[Array, ""],
    temperature: Float[Array, ""],
    key: UInt32[Array, " W"],
) -> tuple[Float[Array, "L 2 N F"], Int[Array, ""]]:
    """Keys and values of a prompt in every block, and the first token after it.

    Args:
        config: of the model; a mixture must be dropless at evaluation (`check_stepwise`).
        params: what `Palm(config).init` returned.
        tokens: the prompt, padded on the right.
        length: how many of them are the prompt.
        top_k, temperature: see `sample_each`.
        key: the data of the key for this token.
    """
    slots = tokens.shape[0]
    index = jnp.arange(slots, dtype=jnp.int32)
    real = index < length
    mask = (index <= index[:, None]) & real
    logits, caches = _extend(
        config,
        params,
        tokens[None],
        index[None],
        mask[None],
        real[None],
        empty_caches(config, 1, slots),
        0,
        (length - 1)[None],
    )
    keys = jax.random.wrap_key_data(key[None])
    first = sample_each(keys, logits, temperature[None], top_k[None])[0]
    return jnp.stack([jnp.stack([c.key[0], c.value[0]]) for c in caches]), first


def fill_slot(slots: Slots, memory: Float[Array, "L 2 N F"], entry: Entry) -> Slots:
    """Gives a row to a request whose prompt was read.

    Args:
        slots: of which the row is free.
        memory: keys and values of the prompt, by `read_prompt`; those of padding are never
            looked at, since what is made is written over them.
        entry: all else.
    """
    row = entry.numbers[0]

    def written(cache: Array, new: Array) -> Array:
        return lax.dynamic_update_slice(cache, new[None], (row, 0, 0))

    return Slots(
        tuple(
            (written(key, new[0]), written(value, new[1]))
            for (key, value), new in zip(slots.caches, memory, strict=True)
        ),
        slots.counters.at[row].set(entry.numbers[1:5]),
        slots.limits.at[row].set(entry.numbers[5:]),
        slots.temperature.at[row].set(entry.temperature),
        slots.keys.at[row].set(entry.keys),
    )


def empty_slot(slots: Slots, row: Int[Array, ""]) -> Slots:
    """Takes a row from a request that is not done."""
    return slots._replace(counters=slots.counters.at[row, 3].set(0))


def step_slots(config: PalmConfig, params: Any, slots: Slots) -> tuple[Slots, Int[Array, " S"]]:
    """Makes a token in every row that has some left.

    Rows that have none are masked: they are not routed, and what a row makes does not depend on
    them, nor on what others hold.

    Returns:
        the slots after it, and the tokens; -1 where none was made.
    """
    token, position, made, left = slots.counters.T
    end, top_k = slots.limits.T
    active = left > 0
    room = slots.keys.shape[1]
    mask = (jnp.arange(room) <= position[:, None])[:, None]
    logits, caches = _extend(
        config,
        params,
        token[:, None],
        position[:, None],
        mask,
        active[:, None],
        tuple(KeyValues(*cache) for cache in slots.caches),
        position,
        jnp.zeros_like(position),
    )
    data = jnp.take_along_axis(slots.keys, made[:, None, None], axis=1)[:, 0]
    temperature = jnp.where(active, slots.temperature, 0.0)
    new = sample_each(jax.random.wrap_key_data(data), logits, temperature, top_k)
    one = active.astype(jnp.int32)
    counters = (
        jnp.where(active, new, token),
        position + one,
        made + one,
        jnp.where(new == end, 0, left - 1) * one,
    )
    after = slots._replace(
        caches=tuple((cache.key, cache.value) for cache in caches),
        counters=jnp.stack(counters, axis=1),
    )
    return after, jnp.where(active, new, -1)


def run_slots(
    config: PalmConfig, params: Any, slots: Slots, steps: int
) -> tuple[Slots, Int[Array, "{steps} S"]]:
    """So many steps, one after the other: what it costs to ask for one is paid once."""

    def step(slots: Slots, _: None) -> tuple[Slots, Int[Array, " S"]]:
        return step_slots(config, params, slots)

    return lax.scan(step, slots, length=steps)


def _extend(config: PalmConfig, params: Any, *given: Any) -> tuple[Array, tuple[KeyValues, ...]]:
    found: Any = Palm(config).apply(params, *given, method="extend")
    return found
