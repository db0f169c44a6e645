"""Attention pooling of a sequence of tokens."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .config import Activation
from .mlp import Mlp


class AttentionPooling(nn.Module):
    """A learned query over all tokens, then an MLP (Zhai et al., arXiv 2106.04560, section 3).

    Attributes:
        heads: of the attention; D divides by it.
        hidden: H of the MLP.
        dtype: of the activations.
        activation, epsilon: of the MLP and of its LayerNorm.
    """

    heads: int
    hidden: int
    dtype: DTypeLike = jnp.float32
    activation: Activation = "gelu_tanh"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B D"]:
        """(B, D) in `dtype`."""
        width = tokens.shape[-1]
        init = nn.initializers.xavier_uniform()
        probe = self.param("probe", init, (1, 1, width)).astype(self.dtype)
        probe = jnp.broadcast_to(probe, (tokens.shape[0], 1, width))
        attention = nn.MultiHeadDotProductAttention(
            self.heads, dtype=self.dtype, kernel_init=init, name="MultiHeadDotProductAttention_0"
        )
        x = attention(probe, tokens)
        norm = nn.LayerNorm(epsilon=self.epsilon, dtype=self.dtype, name="LayerNorm_0")
        mlp = Mlp(self.hidden, self.dtype, self.activation, name="MlpBlock_0")
        return (x + mlp(norm(x)))[:, 0]
