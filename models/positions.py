"""What tells tokens of an image where they are."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .config import Positions


class PositionEmbedding(nn.Module):
    """Adds positions to sequences of tokens.

    Attributes:
        kind: `learned`, `sincos2d` (no parameters) or `none`.
        patches: (rows, columns) of patches; tokens before them, such as a class token, get
            zeros of the fixed kind.
    """

    kind: Positions
    patches: tuple[int, int]

    @nn.compact
    def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """(B, N, D) in the tokens' type."""
        if self.kind == "none":
            return tokens
        length, width = tokens.shape[1:]
        if self.kind == "learned":
            start = nn.initializers.normal(0.02)
            table = self.param("pos_embedding", start, (1, length, width))
        else:
            table = jnp.asarray(sincos2d(*self.patches, width))
            table = jnp.pad(table, ((length - len(table), 0), (0, 0)))[None]
        return tokens + table.astype(tokens.dtype)


def sincos2d(rows: int, columns: int, width: int) -> Float[np.ndarray, "N D"]:
    """Sines and cosines of column and row at D/4 frequencies from 1 to 1/10,000 (MoCo v3).

    Raises:
        ValueError: D does not divide by 4.
    """
    if width % 4:
        raise ValueError(f"sincos2d positions need a width that divides by 4, not {width}")
    y, x = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    steps = max(width // 4 - 1, 1)
    frequency = 10_000.0 ** -(np.arange(width // 4) / steps)
    parts = (np.sin(x * frequency), np.cos(x * frequency), np.sin(y * frequency))
    return np.concatenate([*parts, np.cos(y * frequency)], axis=1).astype(np.float32)
