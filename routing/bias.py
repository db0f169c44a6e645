"""Loss-free balancing: a bias per expert that moves the choice and is never learned.

Wang et al. (arXiv 2408.15664): select with the bias, weigh without it, and after each step
lower the bias of experts that were asked for too often. The state is the bias itself.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

BiasRule = Literal["sign", "z_score"]


def update_bias(
    bias: Float[Array, " E"],
    wanted: Float[Array, " E"],
    *,
    rate: float = 0.001,
    rule: BiasRule = "sign",
) -> Float[Array, " E"]:
    """The bias for the next step.

    `sign` (arXiv 2408.15664, algorithm 1): b + rate * sign(mean(wanted) - wanted).
    `z_score` (MoE-ViE, arXiv 2608.17402): b - rate * (wanted - mean) / std, population std, which
    moves far experts further; at exact balance, and with nothing wanted, nothing moves.

    Args:
        bias: (E,) float32; zeros to begin with.
        wanted: (E,) pairs that chose each expert over the batch, *before* drops
            (`RoutingSums.assigned` summed over modalities): what was dropped was wanted too.
        rate: the step u (0.001 in the paper for gates in 0..1).
        rule: how far.

    Raises:
        ValueError: shapes differ, the rate is negative, or the rule is unknown.
    """
    if bias.ndim != 1 or bias.shape != wanted.shape:
        raise ValueError(f"bias {bias.shape} and wanted {wanted.shape}: both must be (E,)")
    if not rate >= 0:
        raise ValueError(f"rate={rate}: it must not be negative")
    wanted = wanted.astype(jnp.float32)
    excess = wanted - jnp.mean(wanted)
    if rule == "sign":
        return bias - rate * jnp.sign(excess)
    if rule == "z_score":
        std = jnp.sqrt(jnp.mean(jnp.square(excess)))
        return bias - rate * jnp.where(std > 0, excess / jnp.where(std > 0, std, 1.0), 0.0)
    raise ValueError(f"rule={rule!r}: expected 'sign' or 'z_score'")
