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


def sample_each(
    keys: Key[Array, " B"],
    logits: Float[Array, "B V"],
    temperature: Float[Array, " B"],
    top_k: Int[Array, " B"],
) -> Int[Array, " B"]:
    """Of each row the token that `sample` draws from it alone, by its own key and settings.

    Args:
        keys: one for each row.
        logits: float32.
        temperature: zero takes the likeliest token.
        top_k: V is all.
    """
    likeliest = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    vocabulary = logits.shape[-1]

    def least() -> Float[Array, "B 1"]:
        ascending = jnp.sort(logits, axis=-1)
        return jnp.take_along_axis(ascending, (vocabulary - top_k)[:, None], axis=-1)

    def drawn() -> Int[Array, " B"]:
        everything = lambda: jnp.full((len(logits), 1), -jnp.inf)  # noqa: E731
        floor = lax.cond(jnp.any(top_k < vocabulary), least, everything)
        among = jnp.where(logits < floor, -jnp.inf, logits)
        found = jax.vmap(lambda key, row, t: sample(key, row[None], t)[0])(
            keys, among, jnp.where(temperature > 0, temperature, 1.0)
        )
        return jnp.where(temperature > 0, found, likeliest)

    # Sorting and drawing cost more than all else of a small model, so none is done for nobody.
    return lax.cond(jnp.any(temperature > 0), drawn, lambda: likeliest)
