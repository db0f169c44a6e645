"""Routers without knowledge, to hold the learned ones against."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .capacity import check_selected
from .checks import check_capacity, check_mask, check_not_empty
from .routed import Routing
from .token_choice import choose, place


def route_random(
    key: Key[Array, "..."],
    mask: Bool[Array, "G T"],
    num_experts: int,
    *,
    selected: int,
    capacity: int | None,
) -> Routing:
    """K different experts drawn uniformly, in a random order of service; gates 1/K.

    Its success rate at some capacity is what chance alone gives; a learned router
    should do better.

    Args:
        key: one, or one for each group (G,), which makes a group's draw independent of the others.
        mask: true for tokens to route.
        num_experts: E.
        selected: K.
        capacity: C; None is dropless.

    Raises:
        ValueError: K is not in 1..E, C is below one, an axis is empty, or there are keys for
            another number of groups.
    """
    groups, tokens = mask.shape
    keys = jax.random.split(key, groups) if key.ndim == 0 else key
    if keys.shape != (groups,):
        raise ValueError(f"keys have shape {keys.shape}: expected one, or (G,) = {(groups,)}")
    drawn = jax.vmap(lambda one: jax.random.uniform(one, (tokens, num_experts + 1)))(keys)
    scores, order = drawn[..., :num_experts], drawn[..., num_experts]
    return _blind(scores, mask, num_experts, selected, capacity, order)


def route_hash(
    ids: Int[Array, "G T"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    num_experts: int,
    selected: int,
    capacity: int | None,
    seed: int = 0,
) -> Routing:
    """A fixed random set of K experts for each id, whatever the context (Hash Layers, 2106.04426).

    Every token of one id goes the same way, always and everywhere; gates 1/K, token order.

    Args:
        ids: what a token is: a piece of the vocabulary, a position.
        mask: true for tokens to route; None routes all.
        num_experts: E.
        selected: K.
        capacity: C; None is dropless.
        seed: another fixed map.

    Raises:
        ValueError: K is not in 1..E, C is below one, an axis is empty, or the mask has another
            shape.
    """
    if mask is None:
        mask = jnp.ones(ids.shape, bool)
    check_mask(mask, ids.shape)
    number = jnp.where(mask, ids, 0).astype(jnp.uint32) * jnp.uint32(0x9E3779B9)
    expert = jnp.arange(num_experts, dtype=jnp.uint32) * jnp.uint32(0x85EBCA6B)
    mixed = _mix(_mix(number + jnp.uint32(seed))[..., None] ^ _mix(expert + jnp.uint32(seed + 1)))
    # The top 24 bits, which float32 holds exactly.
    scores = (mixed >> 8).astype(jnp.float32)
    return _blind(scores, mask, num_experts, selected, capacity, None)


def _mix(x: Array) -> Array:
    """A bijection of 32-bit numbers whose every output bit depends on every input bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _blind(
    scores: Float[Array, "G T E"],
    mask: Bool[Array, "G T"],
    num_experts: int,
    selected: int,
    capacity: int | None,
    order: Float[Array, "G T"] | None,
) -> Routing:
    check_not_empty(scores.shape)
    check_selected(selected, num_experts)
    check_capacity(capacity)
    chosen = choose(scores, selected)
    weight = jnp.full(chosen.shape, 1.0 / selected, jnp.float32)
    assignment = place(chosen, weight, mask, num_experts, capacity, order)
    nothing = jnp.zeros(scores.shape, jnp.float32)
    even = jnp.full(scores.shape, 1.0 / num_experts, jnp.float32)
    return Routing(assignment, nothing, nothing, even, even, mask, 0.0, selected)
