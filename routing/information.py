"""How much an expert tells of a token's label: mutual information of counts or soft sums."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from .balance import entropy


def mutual_information(table: Float[Array, "A B"]) -> Float[Array, ""]:
    """I(A; B) in nats of a table of counts or of unnormalised probabilities.

    Sum of p(a,b) log[p(a,b) / (p(a) p(b))]. 0, with finite gradients, for a table of zeros
    and with a single row or column. Of counts, this is the plug-in estimate: too large by
    about `information_bias`.
    """
    joint = _joint(table)
    # Ratios rather than H(A) + H(B) - H(A,B), which loses its digits where I is near 0.
    apart = jnp.sum(joint, axis=1, keepdims=True) * jnp.sum(joint, axis=0)
    # Smaller ones add nothing, and the square of their product underflows in the gradient.
    some = (joint > 1e-18) & (apart > 1e-18)
    ratio = jnp.where(some, joint, 1.0) / jnp.where(some, apart, 1.0)
    return jnp.sum(jnp.where(some, joint * jnp.log(ratio), 0.0))


def normalised_information(table: Float[Array, "A B"]) -> Float[Array, ""]:
    """I(A; B) / sqrt(H(A) H(B)), in 0..1; 0 where either entropy is 0.

    Other normalisers are in use (the mean, the smaller, the larger entropy, log E); this is the
    geometric mean.
    """
    joint = _joint(table)
    product = entropy(jnp.sum(joint, axis=1)) * entropy(jnp.sum(joint, axis=0))
    some = product > 0
    root = jnp.sqrt(jnp.where(some, product, 1.0))
    return jnp.where(some, mutual_information(joint) / root, 0.0)


def information_bias(counts: Float[Array, "A B"]) -> Float[Array, ""]:
    """(A-1)(B-1) / (2N) nats: by how much I is overestimated from N independent counts.

    First order (Miller, 1955), in the full numbers of rows and columns. Tokens of one image or
    sentence are not independent, so that the true bias is larger. 0 where N is 0.
    """
    total = jnp.sum(counts)
    degrees = float((counts.shape[0] - 1) * (counts.shape[1] - 1))
    return jnp.where(total > 0, degrees / (2.0 * jnp.where(total > 0, total, 1.0)), 0.0)


def _joint(table: Float[Array, "A B"]) -> Float[Array, "A B"]:
    total = jnp.sum(table)
    return table / jnp.where(total > 0, total, 1.0)
