"""The dense MLP block, which is also the twin of one expert."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from ..routing import ACTIVATIONS
from .config import Activation

KERNEL_INIT = nn.initializers.xavier_uniform()
BIAS_INIT = nn.initializers.normal(stddev=1e-6)


class Mlp(nn.Module):
    """Dense_0, GELU, Dense_1 (ViT, arXiv 2010.11929; parameters as in V-MoE's tree).

    Attributes:
        hidden: H.
        dtype: of the activations; parameters are float32.
        activation: GELU by tanh, exact, or CLIP's quick form.
    """

    hidden: int
    dtype: DTypeLike = jnp.float32
    activation: Activation = "gelu_tanh"

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """(…, D) to (…, D) in `dtype`."""
        *batch, width = x.shape
        # Over one axis of rows, XLA's CPU back end takes the weight gradients without first
        # transposing both operands: a quarter off the backward pass of a (G, T, D) input.
        x = x.reshape(-1, width)
        for i, features in enumerate((self.hidden, width)):
            x = nn.Dense(
                features,
                dtype=self.dtype,
                kernel_init=KERNEL_INIT,
                bias_init=BIAS_INIT,
                name=f"Dense_{i}",
            )(x)
            x = ACTIVATIONS[self.activation](x) if i == 0 else x
        return x.reshape(*batch, width)
