"""The arithmetic under the balance losses: CV^2, smooth load, entropy of a distribution."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def squared_cv(values: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
    """The squared coefficient of variation over the last axis: population variance / mean^2.

    V-MoE (arXiv 2106.05974, appendix A) writes (std / mean)^2, whose gradient is 0/0 at perfect
    balance. The same number as var / mean^2 has the gradient 0 there. All-zero values give 0.
    """
    mean = jnp.mean(values, axis=-1)
    variance = jnp.mean(jnp.square(values - mean[..., None]), axis=-1)
    # Both `where`s are needed: the untaken branch of one would still put NaN in the gradient.
    some = mean > 0
    return jnp.where(some, variance / jnp.square(jnp.where(some, mean, 1.0)), 0.0)


def load_probabilities(
    logits: Float[Array, "G T E"],
    noisy_logits: Float[Array, "G T E"],
    last_choice: Int[Array, "G T"],
    sigma: float,
) -> Float[Array, "G T E"]:
    """P(expert is among the token's K best, were its noise drawn again), V-MoE appendix A.

    p_e = 1 - Phi((thr - logit_e) / sigma), thr the K-th largest *noisy* logit of the token
    (that of its `last_choice`), Phi the standard normal distribution function. Gradients
    flow through the clean logits and, as in V-MoE's code, through the threshold.
    """
    last = last_choice[..., None] == jnp.arange(logits.shape[-1])
    threshold = jnp.sum(jnp.where(last, noisy_logits, 0.0), axis=-1, keepdims=True)
    # 1 - Phi(x) = Phi(-x), which keeps its precision in the far tail.
    return jax.scipy.stats.norm.cdf((logits - threshold) / sigma)


def entropy(probs: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
    """-sum p log p over the last axis, in nats, with 0 log 0 = 0 and a finite gradient there."""
    some = probs > 0
    return -jnp.sum(jnp.where(some, probs * jnp.log(jnp.where(some, probs, 1.0)), 0.0), axis=-1)
