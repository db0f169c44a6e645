"""The two contrastive objectives, over the whole global batch, and their temperature's cap."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def capped_scale(log_scale: Float[Array, ""], largest: float | None) -> Float[Array, ""]:
    """exp(log_scale), counted as at most `largest`; None is no bound.

    Above the cap the gradient is that at the cap, and not zero: a scale that got there comes back
    once the loss wants a smaller one.
    """
    if largest is None:
        return jnp.exp(log_scale)
    held = jax.lax.stop_gradient(jnp.minimum(log_scale, math.log(largest)))
    # The difference is zero, so that the value is the cap's to the bit.
    return jnp.exp(held + (log_scale - jax.lax.stop_gradient(log_scale)))


def softmax_loss(
    image: Float[Array, "B F"],
    text: Float[Array, "B F"],
    scale: Float[Array, ""],
    mask: Bool[Array, " B"] | None = None,
) -> Float[Array, ""]:
    """Mean of the cross-entropies of rows and of columns of scale · image · textᵀ.

    L = -1/(2n) Σ_j [log softmax over texts at (j, j) + log softmax over images at (j, j)]
    (CLIP; LIMoE section 2). In nats; a masked pair is in no sum and no denominator.

    Args:
        image, text: embeddings of unit norm, row j of both belonging together.
        scale: inverse temperature.
        mask: false for the padding rows of a ragged batch.
    """
    logits = scale * image.astype(jnp.float32) @ text.astype(jnp.float32).T
    if mask is None:
        mask = jnp.ones(image.shape[:1], bool)
    # Not -inf: a fully masked row would be NaN in the gradient.
    logits = jnp.where(mask[:, None] & mask[None, :], logits, -1e9)
    right = jnp.diagonal(logits)
    rows = jax.nn.logsumexp(logits, axis=1) - right
    columns = jax.nn.logsumexp(logits, axis=0) - right
    weight = mask.astype(jnp.float32)
    return jnp.sum(weight * (rows + columns)) / (2 * jnp.maximum(jnp.sum(weight), 1.0))


def sigmoid_loss(
    image: Float[Array, "B F"],
    text: Float[Array, "B F"],
    scale: Float[Array, ""],
    bias: Float[Array, ""],
    mask: Bool[Array, " B"] | None = None,
    chunks: int = 1,
) -> Float[Array, ""]:
    """SigLIP's pairwise loss (Zhai et al., arXiv 2303.15343, equation 1), in nats per image.

    L = 1/n Σ_i Σ_j -log σ(z_ij (scale · image_i · text_j + bias)), z_ij = 1 for pairs and -1
    otherwise. Pairs are summed apart from the rest, so that no small loss is the difference of
    large sums; images come in `chunks`, each rematerialised, so that B/chunks · B logits are alive
    rather than B².

    Raises:
        ValueError: chunks do not divide the batch.
    """
    batch = image.shape[0]
    if batch % chunks:
        raise ValueError(f"chunks={chunks} does not divide the batch of {batch}")
    image, text = image.astype(jnp.float32), text.astype(jnp.float32)
    weight = jnp.ones((batch,)) if mask is None else mask.astype(jnp.float32)

    @jax.checkpoint
    def negatives(total: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        rows, row_weight, number = part
        cost = jax.nn.softplus(scale * rows @ text.T + bias)
        cost = jnp.where(number[:, None] == numbers, 0.0, cost)
        return total + jnp.sum(cost * row_weight[:, None] * weight[None, :]), None

    numbers = jnp.arange(batch)
    cut = (
        image.reshape(chunks, -1, image.shape[1]),
        *(x.reshape(chunks, -1) for x in (weight, numbers)),
    )
    total, _ = jax.lax.scan(negatives, jnp.zeros(()), cut)
    pairs = jax.nn.softplus(-(scale * jnp.sum(image * text, axis=-1) + bias))
    return (total + jnp.sum(weight * pairs)) / jnp.maximum(jnp.sum(weight), 1.0)
