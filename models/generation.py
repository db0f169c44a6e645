"""Text from a PaLM, token by token, with keys and values kept."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .causal_routing import check_stepwise
from .palm import Palm, empty_caches
from .palm_config import PalmConfig
from .sampling import sample
from .stacking import stack_blocks


def generate(
    config: PalmConfig,
    params: Any,
    prompts: Int[Array, "B N"],
    mask: Bool[Array, "B N"] | None = None,
    *,
    steps: int,
    key: Key[Array, ""] | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    end: int | None = None,
) -> Int[Array, "B steps"]:
    """Continues each prompt by so many tokens.

    The prompts are read at once, then each token by itself, in one compiled program for each
    (shape, steps, top_k, end) and whether it is greedy.

    Args:
        config: of the model; sparse ones must be dropless at evaluation (`check_stepwise`).
        params: what `Palm(config).init` returned, or trained.
        prompts: tokens, padded on the right.
        mask: true for real tokens; None is all.
        steps: tokens to make.
        key: to draw from, where the temperature is above zero.
        temperature: 0 takes the likeliest token each time.
        top_k: draws among so many of the likeliest only.
        end: a row that has made this token goes on with nothing but it.

    Raises:
        ValueError: a prompt is empty or not padded on the right; prompt and steps are longer than
            `max_length`; steps, temperature or top_k are out of range; there is no key to
            draw from; or the mixture cannot generate.
    """
    if config.moe_layers:
        check_stepwise(config.moe)
    if steps < 1:
        raise ValueError(f"steps={steps}: at least one token is made")
    total = prompts.shape[1] + steps
    if total > config.max_length:
        raise ValueError(
            f"{prompts.shape[1]} tokens of prompt and {steps} steps are longer than "
            f"max_length={config.max_length}"
        )
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature}: it is zero (greedy) or above")
    if temperature > 0 and key is None:
        raise ValueError(f"temperature={temperature} needs a key to draw from")
    if top_k is not None and not 1 <= top_k <= config.vocab_size:
        raise ValueError(f"top_k={top_k}: expected 1..{config.vocab_size}, or None for all")
    real = np.ones(prompts.shape, bool) if mask is None else np.asarray(mask)
    if not real[:, :1].all() or (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError(
            "each row of the mask must be true for one token or more, then false: prompts are "
            "padded on the right, and none is empty"
        )
    return _generate(
        config,
        params,
        prompts,
        jnp.asarray(real),
        jax.random.key(0) if key is None else key,
        temperature,
        steps=steps,
        greedy=temperature == 0,
        top_k=top_k,
        end=end,
    )


@functools.partial(jax.jit, static_argnames=("config", "steps", "greedy", "top_k", "end"))
def _generate(
    config: PalmConfig,
    params: Any,
    prompts: Int[Array, "B N"],
    real: Bool[Array, "B N"],
    key: Key[Array, ""],
    temperature: Float[Array, ""],
    *,
    steps: int,
    greedy: bool,
    top_k: int | None,
    end: int | None,
) -> Int[Array, "B steps"]:
    batch, length = prompts.shape
    slots = length + steps - 1  # the last token made is not read
    slot = jnp.arange(slots)
    lengths = jnp.sum(real, axis=1, dtype=jnp.int32)
    in_prompt = jnp.pad(real, ((0, 0), (0, steps - 1)))
    if config.scan:  # once, rather than at each token
        params = stack_blocks(params)
    extend = functools.partial(Palm(config).apply, params, method="extend")

    def draw(key, logits, done):
        if greedy:
            token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        else:
            token = sample(key, logits, temperature, top_k)
        if end is not None:
            token = jnp.where(done, end, token)
            done = done | (token == end)
        return token, done

    index = jnp.arange(length, dtype=jnp.int32)
    mask = (slot <= index[:, None]) & in_prompt[:, None]
    positions = jnp.broadcast_to(index, prompts.shape)
    caches = empty_caches(config, batch, slots)
    logits, caches = extend(prompts, positions, mask, real, caches, 0, lengths - 1)
    keys = jax.random.split(key, steps)
    token, done = draw(keys[0], logits, jnp.zeros((batch,), bool))

    def step(carry, xs):
        caches, token, done = carry
        number, key = xs
        # All rows write to one slot, behind the padding of the longest prompt; the positions,
        # which are all that attention sees of order, go on from each row's own length.
        made = (slot >= length) & (slot <= length + number)
        mask = (in_prompt | made)[:, None]
        everyone = jnp.ones((batch, 1), bool)
        where = (lengths + number)[:, None]
        first = jnp.zeros((batch,), jnp.int32)
        logits, caches = extend(
            token[:, None], where, mask, everyone, caches, length + number, first
        )
        token, done = draw(key, logits, done)
        return (caches, token, done), token

    numbers = jnp.arange(steps - 1, dtype=jnp.int32)
    _, rest = lax.scan(step, (caches, token, done), (numbers, keys[1:]))
    return jnp.concatenate([token[None], rest]).T
