"""PaLM's optimiser: Adafactor without the factoring (arXiv 2204.02311, section 5)."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from .across_experts import Blocks


def palm_learning_rate(lr: float = 1e-2, constant_steps: int = 10_000) -> optax.Schedule:
    """`lr` for so many steps k = 1, 2, …, then lr · sqrt(constant_steps / k).

    As published that is 1/sqrt(k) after 10,000 steps. A function of optax's count, which is k - 1.
    """

    def rate(count):
        return lr * jnp.sqrt(constant_steps / jnp.maximum(count + 1, constant_steps))

    return rate


def palm_optimizer(
    lr: float = 1e-2,
    constant_steps: int = 10_000,
    *,
    momentum: float = 0.9,
    decay: float = 0.8,
    clip: float = 1.0,
    min_scale: float = 1e-3,
    blocks: Blocks | None = None,
) -> optax.GradientTransformation:
    """Adam in effect, with steps in proportion to the size of what they change.

    With gradients g clipped to a global norm of `clip`, at step k = 1, 2, …:

        β₂ = 1 - k^-decay
        v  ← β₂ v + (1 - β₂) g²
        m  ← β₁ m + (1 - β₁) lr_k · max(RMS(p), min_scale) · g / √v
        p  ← p - m - lr_k² p

    RMS is over a parameter array (over the kernels of all experts of a mixture together). The
    momentum is not debiased, and decay is on every parameter: the paper makes no
    exception. Adafactor's own clipping of updates is not in the paper's account, nor here.

    Args:
        lr: of the constant part; see `palm_learning_rate`.
        constant_steps: how long it is.
        momentum: β₁.
        decay: the exponent of β₂.
        clip: largest global norm of the gradients; 0 is off.
        min_scale: below this RMS (of zeros, say) parameters move as if they had it.
        blocks: how norms and RMS are taken; None is as optax does.
    """
    blocks = blocks or Blocks()
    rate = palm_learning_rate(lr, constant_steps)
    return optax.chain(
        blocks.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.scale_by_factored_rms(factored=False, decay_rate=decay),
        optax.scale_by_learning_rate(rate, flip_sign=False),
        blocks.scale_by_param_block_rms(min_scale),
        optax.ema(momentum, debias=False),
        optax.add_decayed_weights(lambda count: rate(count) ** 2),
        optax.scale(-1.0),
    )
