"""The arithmetic of the balance losses: CV^2, smooth load, entropy, and their pools of tokens."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .leaf import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PoolSums:
    """Balance losses of pools of tokens (a group, or a device's groups), summed over pools.

    Attributes:
        count: (), pools with at least one valid token; the others add nothing to any loss.
        importance, load, gshard, switch: (), sums of the losses (`pool_sums`).
    """

    count: Leaf
    importance: Leaf
    load: Leaf
    gshard: Leaf
    switch: Leaf


def pool_sums(
    tokens: Float[Array, " N"],
    probs: Float[Array, "N E"],
    load: Float[Array, "N E"],
    gates: Float[Array, "N E"],
    first: Float[Array, "N E"],
    wanted: Float[Array, "N E"],
) -> PoolSums:
    """Each balance loss of each of N pools, summed over them.

    Args:
        tokens: valid tokens of each pool; the other arguments are sums over them.
        probs: clean gates.
        load: smooth load.
        gates: gates that the choice was made on.
        first: tokens whose first choice is the expert.
        wanted: pairs that want the expert, before drops.
    """
    return PoolSums(
        count=jnp.sum((tokens > 0).astype(jnp.float32)),
        importance=jnp.sum(squared_cv(probs)),
        load=jnp.sum(squared_cv(load)),
        gshard=jnp.sum(fraction_times_gate(first, gates, tokens)),
        switch=jnp.sum(fraction_times_gate(wanted, gates, tokens)),
    )


def fraction_times_gate(
    counts: Float[Array, "*batch E"],
    gates: Float[Array, "*batch E"],
    tokens: Float[Array, "*batch"],
) -> Float[Array, "*batch"]:
    """E * sum_e (counts_e / n) (gates_e / n), which is E^2 * mean_e of the same; 0 where n is 0.

    The gradient flows through the gates alone: counts are constants.
    """
    product = jnp.sum(jax.lax.stop_gradient(counts) * gates, axis=-1)
    return counts.shape[-1] * product / jnp.square(jnp.maximum(tokens, 1.0))


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
    logits: Float[Array, "G T E"], threshold: Float[Array, "G T 1"], sigma: float
) -> Float[Array, "G T E"]:
    """P(expert is among the token's K best, were its noise drawn again), V-MoE appendix A.

    p_e = 1 - Phi((threshold - logit_e) / sigma), Phi the standard normal distribution
    function. Gradients flow through the clean logits and, as in V-MoE's code, through the
    threshold, which is the token's K-th largest *noisy* logit.
    """
    # 1 - Phi(x) = Phi(-x), which keeps its precision in the far tail.
    return jax.scipy.stats.norm.cdf((logits - threshold) / sigma)


def entropy(probs: Float[Array, "*batch E"]) -> Float[Array, "*batch"]:
    """-sum p log p over the last axis, in nats, with 0 log 0 = 0 and a finite gradient there."""
    some = probs > 0
    return -jnp.sum(jnp.where(some, probs * jnp.log(jnp.where(some, probs, 1.0)), 0.0), axis=-1)
