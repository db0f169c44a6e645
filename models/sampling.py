"""Drawing the next token."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key


def sample(
    key: Key[Array, ""],
    logits: Float[Array, "B V"],
    temperature: Float[Array, ""] | float,
    top_k: int | None = None,
) -> Int[Array, " B"]:
    """One token a row from softmax(logits / temperature), int32.

    Args:
        key: all rows draw from it, independently.
        logits: float32.
        temperature: above zero.
        top_k: only so many of the likeliest tokens, and those that tie with the last of them.
    """
    if top_k is not None:
        least = lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.random.categorical(key, logits / temperature).astype(jnp.int32)
