"""The last step of a tower: to the space that both share."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Array, Float

from .two_tower_config import TowerProjection


class CommonSpace(nn.Module):
    """A linear map in float32, with or without a bias, or nothing at all.

    Attributes:
        features: F.
        kind: see `ImageTowerConfig.projection`.
    """

    features: int
    kind: TowerProjection

    @nn.compact
    def __call__(self, pooled: Float[Array, "B D"]) -> Float[Array, "B F"]:
        """(B, F) float32.

        Raises:
            ValueError: there is no map, and D is not F.
        """
        width = pooled.shape[-1]
        if self.kind == "none":
            if width != self.features:
                raise ValueError(
                    f"projection 'none' with width {width} and embed_dim {self.features}: without "
                    "a projection they must be equal; set both, or projection 'linear'"
                )
            return pooled
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (width, self.features))
        out = pooled @ kernel
        if self.kind == "affine":
            out += self.param("bias", nn.initializers.zeros, (self.features,))
        return out
