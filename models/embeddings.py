"""From pixels and pieces to tokens of width D, one small module per modality."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from .config import ModelConfig


def patches(images: Float[Array, "B S S F"], size: int) -> Float[Array, "B N P"]:
    """Cuts images into N = (S/size)² rows of P = size·size·F values, row by row."""
    batch, side = images.shape[:2]
    rows = side // size
    cut = images.reshape(batch, rows, size, rows, size, -1)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * rows, -1)


def look_up(table: Float[Array, "V D"], ids: Int[Array, "*B"]) -> Float[Array, "*B D"]:
    """Rows of a table, NaN for ids other than 0..V-1; negative ones do not count from the end."""
    return table.at[ids].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


class ImageEmbedding(nn.Module):
    """Patch embedding and learned positions (ViT, section 3.1).

    Pixels enter as ink, (255 - pixel)/127.5, so that empty white paper is zero. The kernel is
    stored (P, P, 3, D), as in the published V-MoE tree.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, images: UInt8[Array, "B S S 3"]) -> Float[Array, "B N D"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        inputs = ((255.0 - images.astype(jnp.float32)) / 127.5).astype(dtype)
        size = c.patch_size
        kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", (0, 1, 2), 3),
            (size, size, 3, c.width),
        )
        bias = self.param("bias", nn.initializers.zeros, (c.width,))
        count = (c.image_size // c.patch_size) ** 2
        position = self.param("pos_embedding", nn.initializers.normal(0.02), (1, count, c.width))
        # Over rows, for the sake of the kernel's gradient; see SelfAttention.
        flat = patches(inputs, size).reshape(-1, size * size * 3)
        tokens = flat @ kernel.reshape(-1, c.width).astype(dtype)
        return tokens.reshape(-1, count, c.width) + (bias + position).astype(dtype)


class TextEmbedding(nn.Module):
    """A row per piece and learned positions; padding is masked out by the stack."""

    config: ModelConfig

    @nn.compact
    def __call__(self, pieces: Int[Array, "B N"]) -> Float[Array, "B N D"]:
        c = self.config
        dtype = jnp.dtype(c.dtype)
        table = self.param("embedding", nn.initializers.normal(0.1), (c.vocab_size, c.width))
        position = self.param(
            "pos_embedding", nn.initializers.normal(0.02), (1, c.text_length, c.width)
        )
        return look_up(table, pieces).astype(dtype) + position.astype(dtype)


class Projection(nn.Module):
    """Masked mean over a sequence, then a linear map to the common space (LIMoE, section 2)."""

    features: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B N D"], mask: Array) -> Float[Array, "B F"]:
        weight = mask.astype(jnp.float32)[..., None]
        total = jnp.sum(tokens.astype(jnp.float32) * weight, axis=1)
        # A sequence of padding only (a pad row of the last batch) must stay finite.
        mean = total / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (tokens.shape[-1], self.features)
        )
        return normalise(mean @ kernel)


def normalise(x: Float[Array, "*B F"]) -> Float[Array, "*B F"]:
    """Unit L2 norm; zero stays zero, with a finite gradient."""
    return x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-12)
