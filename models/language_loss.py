"""The loss of a decoder of text (PaLM, arXiv 2204.02311, section 5)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowLosses:
    """Sums over the targets of each row, in float32.

    Attributes:
        entropy: (B,) of -log p(target), in nats.
        normaliser: (B,) of log² Z.
        targets: (B,) how many there are.
    """

    entropy: Float[Array, "*B"]
    normaliser: Float[Array, "*B"]
    targets: Float[Array, "*B"]


def row_losses(
    logits: Float[Array, "B N V"],
    tokens: Int[Array, "B N"],
    segments: Int[Array, "B N"] | None = None,
) -> RowLosses:
    """What a loss is made of, row by row.

    A target is a token that follows another one of its segment: neither padding (segment 0)
    nor the first token of a packed sequence is one.

    Args:
        logits: of `Palm`; computed in float32.
        tokens: what the logits were made from; those at token n are held against token n+1.
        segments: as `Palm` takes them; None is one sequence a row.
    """
    logits = logits[:, :-1].astype(jnp.float32)
    log_z = logsumexp(logits, axis=-1)
    picked = jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]
    if segments is None:
        segments = jnp.ones_like(tokens)
    real = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] > 0)
    # Not a product with the mask: what stands at padding may be infinite.
    return RowLosses(
        jnp.sum(jnp.where(real, log_z - picked, 0.0), axis=1),
        jnp.sum(jnp.where(real, log_z**2, 0.0), axis=1),
        jnp.sum(real, axis=1, dtype=jnp.float32),
    )


def palm_loss(
    logits: Float[Array, "B N V"],
    tokens: Int[Array, "B N"],
    segments: Int[Array, "B N"] | None = None,
    *,
    z_loss: float = 1e-4,
) -> Float[Array, ""]:
    """Mean over targets of -log p(target) + z_loss · log² Z, in nats.

    With no target at all the loss is 0.

    Args:
        logits, tokens, segments: as `row_losses`.
        z_loss: keeps the logits' normaliser Z near 1; 0 leaves the cross-entropy alone.
    """
    rows = row_losses(logits, tokens, segments)
    total = jnp.sum(rows.entropy) + z_loss * jnp.sum(rows.normaliser)
    return total / jnp.maximum(jnp.sum(rows.targets), 1)
