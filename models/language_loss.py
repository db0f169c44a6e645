"""The loss of a decoder of text (PaLM, arXiv 2204.02311, section 5)."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int


def palm_loss(
    logits: Float[Array, "B N V"],
    tokens: Int[Array, "B N"],
    segments: Int[Array, "B N"] | None = None,
    *,
    z_loss: float = 1e-4,
) -> Float[Array, ""]:
    """Mean over targets of -log p(target) + z_loss · log² Z, in nats.

    A target is a token that follows another one of its segment: neither padding (segment 0)
    nor the first token of a packed sequence is one. With no target at all the loss is 0.

    Args:
        logits: of `Palm`; computed in float32.
        tokens: what the logits were made from; those at token n are held against token n+1.
        segments: as `Palm` takes them; None is one sequence a row.
        z_loss: keeps the logits' normaliser Z near 1; 0 leaves the cross-entropy alone.
    """
    logits = logits[:, :-1].astype(jnp.float32)
    log_z = logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    each = log_z - picked + z_loss * log_z**2
    if segments is None:
        segments = jnp.ones_like(tokens)
    real = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    # Not a product with the mask: what stands at padding may be infinite.
    return jnp.sum(jnp.where(real, each, 0.0)) / jnp.maximum(jnp.sum(real), 1)
