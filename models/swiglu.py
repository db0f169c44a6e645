"""The gated MLP of PaLM's dense blocks (Shazeer, arXiv 2002.05202)."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .plain_dense import plain_dense


class SwiGlu(nn.Module):
    """(swish(x gate) · (x up)) down, three matrices without biases.

    Attributes:
        hidden: H.
        dtype: of the activations; parameters are float32.
    """

    hidden: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """(B, N, D) to (B, N, D) in `dtype`."""
        width = x.shape[-1]
        rows = x.reshape(-1, width)  # for the kernels' gradients; see `Mlp`
        gate = nn.silu(plain_dense(self.hidden, self.dtype, "gate")(rows))
        inner = gate * plain_dense(self.hidden, self.dtype, "up")(rows)
        return plain_dense(width, self.dtype, "down")(inner).reshape(x.shape)
