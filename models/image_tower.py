"""An encoder of images alone, which ends in the common space."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt8

from ..routing import Assignment, RoutingSums
from .attention_pooling import AttentionPooling
from .config import StackConfig
from .embeddings import patches
from .encoder import Encoder
from .tower_projection import CommonSpace
from .two_tower_config import ImageTowerConfig

MODALITY = 0  # its place in MODALITIES, by which statistics tell tokens apart


class ImageTower(nn.Module):
    """A Vision Transformer; its parameters are named as in `Vmoe`, projection apart.

    Attributes:
        config: the tower.
        stack: its blocks.
        features: F.
    """

    config: ImageTowerConfig
    stack: StackConfig
    features: int

    @nn.compact
    def __call__(
        self,
        images: UInt8[Array, "B S S 3"] | Float[Array, "B S S 3"],
        mask: Bool[Array, " B"],
        *,
        groups: int,
        train: bool,
        noise_keys: Key[Array, " G"] | None,
    ) -> tuple[Float[Array, "B F"], dict[str, RoutingSums], dict[str, Assignment]]:
        """Embeddings (B, F) float32, not normalised, and what the routers did, by block.

        Raises:
            ValueError: images of another size than the config's.
        """
        c, dtype = self.config, jnp.dtype(self.stack.dtype)
        if images.shape[1:] != (c.image_size, c.image_size, 3):
            raise ValueError(
                f"images have shape {images.shape}; expected (B, {c.image_size}, "
                f"{c.image_size}, 3), by the config's image_size"
            )
        if images.dtype == jnp.uint8:
            images = (images.astype(jnp.float32) / 255 - jnp.array(c.mean)) / jnp.array(c.std)
        tokens = _PatchEmbedding(c, name="embedding")(images.astype(dtype))
        batch, length, width = tokens.shape[0], c.num_tokens, c.width
        if c.pool == "token":
            first = self.param("cls", nn.initializers.normal(0.02), (1, 1, width)).astype(dtype)
            first = jnp.broadcast_to(first, (batch, 1, width))
            tokens = jnp.concatenate([first, tokens], axis=1)
        shape = (groups, batch // groups * length)
        ids = jnp.broadcast_to(jnp.arange(length), (batch, length)).reshape(shape)
        grouped, routing, assignments = Encoder(self.stack, num_modalities=2, name="Encoder")(
            tokens.reshape(*shape, width),
            jnp.broadcast_to(mask[:, None], (batch, length)).reshape(shape),
            jnp.full(shape, MODALITY, jnp.int32),
            ((batch // groups, length, None),),
            train=train,
            noise_keys=noise_keys,
            ids=ids,
        )
        tokens = grouped.reshape(batch, length, width)
        if c.pool == "token":
            pooled = tokens[:, 0]
        elif c.pool == "gap":
            pooled = jnp.mean(tokens.astype(jnp.float32), axis=1)
        else:
            pooling = AttentionPooling(
                c.heads, c.hidden, dtype, c.activation, c.epsilon, name="MAPHead_0"
            )
            pooled = pooling(tokens)
        project = CommonSpace(self.features, c.projection, name="projection")
        return project(pooled.astype(jnp.float32)), routing, assignments


class _PatchEmbedding(nn.Module):
    """The kernel is stored (P, P, 3, D), as in the published V-MoE tree."""

    config: ImageTowerConfig

    @nn.compact
    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B N D"]:
        size, width = self.config.patch_size, self.config.width
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", (0, 1, 2), 3)
        kernel = self.param("kernel", init, (size, size, 3, width))
        whole = self.config.image_size // size * size
        images = images[:, :whole, :whole]
        # Over rows, for the sake of the kernel's gradient; see SelfAttention.
        flat = patches(images, size).reshape(-1, size * size * 3)
        rows = flat @ kernel.reshape(-1, width).astype(images.dtype)
        if self.config.patch_bias:
            bias = self.param("bias", nn.initializers.zeros, (width,))
            rows += bias.astype(images.dtype)
        return rows.reshape(images.shape[0], -1, width)
