"""The ViT that `byways bench vit` compares with: `flax.linen`'s own layers and nothing else."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from .vit_settings import BenchVit


class PlainVit(nn.Module):
    """ViT with a class token; parameters are named as `Vmoe`'s, so that either takes both's."""

    settings: BenchVit

    @nn.compact
    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B _"]:
        """Float32 logits."""
        s = self.settings
        dtype = jnp.dtype(s.dtype)
        side = (s.patch_size, s.patch_size)
        embedding = nn.Conv(s.width, side, side, "VALID", dtype=dtype, name="embedding")
        x = embedding(images)
        x = x.reshape(len(x), -1, s.width)
        first = self.param("cls", nn.initializers.zeros, (1, 1, s.width)).astype(dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, s.width)), x], axis=1)
        x = _Encoder(s, name="Encoder")(x)
        return nn.Dense(s.num_classes, name="head")(x[:, 0].astype(jnp.float32))


class _Encoder(nn.Module):
    settings: BenchVit

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        x = _Positions(name="posembed_input")(x)
        for index in range(self.settings.depth):
            x = _Block(self.settings, name=f"encoderblock_{index}")(x)
        return nn.LayerNorm(dtype=x.dtype, name="encoder_norm")(x)


class _Positions(nn.Module):
    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        table = self.param("pos_embedding", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        return x + table.astype(x.dtype)


class _Block(nn.Module):
    settings: BenchVit

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        s = self.settings
        y = nn.LayerNorm(dtype=x.dtype)(x)
        x = x + nn.MultiHeadDotProductAttention(s.heads, dtype=x.dtype, name="SelfAttention")(y)
        y = nn.LayerNorm(dtype=x.dtype)(x)
        return x + _Mlp(s.hidden, name="Mlp")(y)


class _Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        y = nn.gelu(nn.Dense(self.hidden, dtype=x.dtype)(x))
        return nn.Dense(x.shape[-1], dtype=x.dtype)(y)
