"""Rotary positions (Su et al., arXiv 2104.09864)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def rotate(
    x: Float[Array, "B N A F"], positions: Int[Array, "B N"], base: float
) -> Float[Array, "B N A F"]:
    """Turns each pair of features by position · base^(-2i/F) radians.

    The product of a query and a key so turned depends on the distance of their positions
    alone. Feature i is paired with i + F/2; the paper's pairs of neighbours are the same up
    to a permutation of the projections' columns. Angles are float32, the result has the
    type of `x`.

    Args:
        x: queries or keys of A heads.
        positions: from 0, given token by token: those of packed sequences restart.
        base: 10,000 in the paper.

    Raises:
        ValueError: F is odd.
    """
    size = x.shape[-1]
    if size % 2:
        raise ValueError(f"head_size={size} is odd: rotary positions turn pairs of features")
    rates = base ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    angles = positions[..., None, None].astype(jnp.float32) * rates
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)
    return turned.astype(x.dtype)


def restarting_positions(segments: Int[Array, "B N"]) -> Int[Array, "B N"]:
    """0, 1, 2, … from wherever the segment's number changes; int32."""
    index = jnp.broadcast_to(jnp.arange(segments.shape[1], dtype=jnp.int32), segments.shape)
    begins = segments[:, 1:] != segments[:, :-1]
    begins = jnp.pad(begins, ((0, 0), (1, 0)), constant_values=True)
    return index - lax.cummax(jnp.where(begins, index, 0), axis=1)
