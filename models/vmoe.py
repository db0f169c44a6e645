"""V-MoE: a Vision Transformer whose MLPs are mixtures of experts (arXiv 2106.05974)."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from ..routing import Assignment, RoutingSums
from .attention_pooling import AttentionPooling
from .embeddings import patches
from .encoder import Encoder
from .groups import whole_sequence_groups
from .vmoe_config import VmoeConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Classification:
    """What the model makes of a batch of images.

    Attributes:
        logits: (B, classes) float32; of a model without a head its features (B, D).
        routing: per sparse block by name, what losses and statistics are made of.
        assignments: per sparse block by name, who went where.
    """

    logits: Float[Array, "B _"]
    routing: dict[str, RoutingSums]
    assignments: dict[str, Assignment]


class Vmoe(nn.Module):
    """Patches, a stack of blocks, a head; parameters are named as in the published checkpoints.

    Tokens of several images make a group, which shares the experts' buffers (V-MoE's
    code cuts the whole batch into groups of so many tokens).
    """

    config: VmoeConfig

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "B S S 3"],
        mask: Bool[Array, " B"] | None = None,
        *,
        train: bool = False,
        noise_keys: Key[Array, " G"] | None = None,
        noise: dict[str, Float[Array, "G T E"]] | None = None,
    ) -> Classification:
        """Classifies.

        Args:
            images: scaled as the model wants them (V-MoE: to -1..1).
            mask: false for the padding rows of a ragged batch, which are never routed.
            train: training capacity and router noise; else the evaluation's.
            noise_keys: one key per group (`image_groups` says how many), where training with noise.
            noise: the noise itself instead, per sparse block by name.
        """
        c = self.config
        dtype = jnp.dtype(c.dtype)
        batch = images.shape[0]
        tokens = _PatchEmbedding(c, name="embedding")(images.astype(dtype))
        if c.classifier == "token":
            first = self.param("cls", nn.initializers.zeros, (1, 1, c.width)).astype(dtype)
            first = jnp.broadcast_to(first, (batch, 1, c.width))
            tokens = jnp.concatenate([first, tokens], axis=1)
        groups = image_groups(c, batch)
        valid = jnp.ones((batch,), bool) if mask is None else mask
        grouped = tokens.reshape(groups, -1, c.width)
        valid = jnp.broadcast_to(valid[:, None], tokens.shape[:2]).reshape(grouped.shape[:2])
        place = jnp.broadcast_to(jnp.arange(c.num_tokens), tokens.shape[:2])
        grouped, routing, assignments = Encoder(c.stack, num_modalities=1, name="Encoder")(
            grouped,
            valid,
            jnp.zeros(grouped.shape[:2], jnp.int32),
            ((batch // groups, c.num_tokens, None),),
            train=train,
            noise_keys=noise_keys,
            noise=noise,
            ids=place.reshape(grouped.shape[:2]),
        )
        tokens = grouped.reshape(batch, c.num_tokens, c.width)
        if c.classifier == "token":
            x = tokens[:, 0]
        elif c.classifier == "gap":
            x = jnp.mean(tokens, axis=1)
        else:
            x = AttentionPooling(c.heads, c.hidden, dtype, name="MAPHead_0")(tokens)
        if c.pre_logits:
            x = nn.tanh(nn.Dense(c.width, dtype=dtype, name="pre_logits")(x))
        if c.num_classes:
            start = nn.initializers.constant(c.head_bias)
            zeros = nn.initializers.zeros
            head = nn.Dense(c.num_classes, kernel_init=zeros, bias_init=start, name="head")
            x = head(x.astype(jnp.float32))
        return Classification(x.astype(jnp.float32), routing, assignments)


def image_groups(config: VmoeConfig, batch: int) -> int:
    """G: whole images make a group, as many as fit the wished group size and divide the batch."""
    return whole_sequence_groups(config.moe, batch, config.num_tokens)


class _PatchEmbedding(nn.Module):
    config: VmoeConfig

    @nn.compact
    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B N D"]:
        c = self.config
        size = c.patch_size
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, size, 3, c.width))
        bias = self.param("bias", nn.initializers.zeros, (c.width,))
        # Over rows, for the sake of the kernel's gradient; see SelfAttention.
        flat = patches(images, size).reshape(-1, size * size * 3)
        rows = flat @ kernel.reshape(-1, c.width).astype(images.dtype) + bias.astype(images.dtype)
        return rows.reshape(images.shape[0], -1, c.width)
