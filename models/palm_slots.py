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
        token: made last, and not read yet.
        position: of that token.
        made: how many tokens were made of the request.
        left: how many are still to be made; 0 is a row that nobody has, or that is done.
        end: the token that ends the request; -1 is none.
        top_k: see `sample_each`.
        temperature: see `sample_each`.
        keys: the data of a key for each token of the request.
    """

    caches: tuple[tuple[Array, Array], ...]
    token: Int[Array, " S"]
    position: Int[Array, " S"]
    made: Int[Array, " S"]
    left: Int[Array, " S"]
    end: Int[Array, " S"]
    top_k: Int[Array, " S"]
    temperature: Float[Array, " S"]
    keys: UInt32[Array, "S R W"]


class Entry(NamedTuple):
    """What a row is filled with, but for keys and values.

    Attributes:
        numbers: the row, and of it token, position, made, left, end and top_k.
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
    none = jnp.zeros((rows,), jnp.int32)
    width = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape[0]
    keys = jnp.zeros((rows, room, width), jnp.uint32)
    whole = jnp.full((rows,), config.vocab_size, jnp.int32)
    blank = jnp.zeros((rows,), jnp.float32)
    caches = tuple((c.key, c.value) for c in empty_caches(config, rows, room))
    return Slots(caches, none, none, none, none, none - 1, whole, blank, keys)


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
    row, token, position, made, left, end, top_k = entry.numbers

    def written(cache: Array, new: Array) -> Array:
        return lax.dynamic_update_slice(cache, new[None], (row, 0, 0))

    caches = tuple(
        (written(key, new[0]), written(value, new[1]))
        for (key, value), new in zip(slots.caches, memory, strict=True)
    )
    return Slots(
        caches,
        slots.token.at[row].set(token),
        slots.position.at[row].set(position),
        slots.made.at[row].set(made),
        slots.left.at[row].set(left),
        slots.end.at[row].set(end),
        slots.top_k.at[row].set(top_k),
        slots.temperature.at[row].set(entry.temperature),
        slots.keys.at[row].set(entry.keys),
    )


def empty_slot(slots: Slots, row: Int[Array, ""]) -> Slots:
    """Takes a row from a request that is not done."""
    return slots._replace(left=slots.left.at[row].set(0))


def step_slots(config: PalmConfig, params: Any, slots: Slots) -> tuple[Slots, Int[Array, " S"]]:
    """Makes a token in every row that has some left.

    Rows that have none are masked: they are not routed, and what a row makes does not depend on
    them, nor on what others hold.

    Returns:
        the slots after it, and the tokens; -1 where none was made.
    """
    active = slots.left > 0
    room = slots.keys.shape[1]
    mask = (jnp.arange(room) <= slots.position[:, None])[:, None]
    logits, caches = _extend(
        config,
        params,
        slots.token[:, None],
        slots.position[:, None],
        mask,
        active[:, None],
        tuple(KeyValues(*cache) for cache in slots.caches),
        slots.position,
        jnp.zeros_like(slots.position),
    )
    data = jnp.take_along_axis(slots.keys, slots.made[:, None, None], axis=1)[:, 0]
    temperature = jnp.where(active, slots.temperature, 0.0)
    token = sample_each(jax.random.wrap_key_data(data), logits, temperature, slots.top_k)
    one = active.astype(jnp.int32)
    after = slots._replace(
        caches=tuple((cache.key, cache.value) for cache in caches),
        token=jnp.where(active, token, slots.token),
        position=slots.position + one,
        made=slots.made + one,
        left=jnp.where(token == slots.end, 0, slots.left - 1) * one,
    )
    return after, jnp.where(active, token, -1)


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
