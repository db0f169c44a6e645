"""A matrix, and no bias: PaLM's every kernel."""

from __future__ import annotations

import flax.linen as nn
from jax.typing import DTypeLike

# Normal with a standard deviation of 1/sqrt(inputs); Flax's `lecun_normal` cuts its tails.
FAN_IN = nn.initializers.variance_scaling(1.0, "fan_in", "normal")


def plain_dense(features: int, dtype: DTypeLike, name: str) -> nn.Dense:
    """A projection to so many features, initialised as in PaLM's appendix; to be owned."""
    return nn.Dense(features, use_bias=False, dtype=dtype, kernel_init=FAN_IN, name=name)
