"""Multi-head self-attention whose parameters carry the published V-MoE names."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

AttentionMask = Bool[Array, "S N"] | Bool[Array, "S N N"] | None


class HeadsDense(nn.Module):
    """Holds one projection to or from heads; the product is taken by the owner.

    Attributes:
        shape: of the kernel, (D, heads, D/heads) or (heads, D/heads, D).
        inputs: how many leading axes of the kernel are summed over.
    """

    shape: tuple[int, ...]
    inputs: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns kernel and bias flattened to (in, out) and (out,)."""
        rank = len(self.shape)
        init = nn.initializers.variance_scaling(
            1.0,
            "fan_avg",
            "uniform",
            in_axis=tuple(range(self.inputs)),
            out_axis=tuple(range(self.inputs, rank)),
        )
        kernel = self.param("kernel", init, self.shape)
        bias = self.param("bias", nn.initializers.zeros, self.shape[self.inputs :])
        out = bias.size
        return kernel.reshape(-1, out), bias.reshape(out)


class SelfAttention(nn.Module):
    """Softmax attention within each sequence of each modality, one set of weights for all.

    The projections run once over every token; only the products between tokens are
    taken per modality, so several modalities cost no more matrix products than one.

    Attributes:
        heads: how many; D divides by it.
        qk_norm: LayerNorm, without bias, over each head's queries and keys.
    """

    heads: int
    qk_norm: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "G T D"],
        sequences: tuple[tuple[int, int, AttentionMask], ...],
    ) -> Float[Array, "G T D"]:
        """Attends.

        Args:
            tokens: (G, T, D), the modalities one after the other along T.
            sequences: per modality, in that order: sequences per group, tokens per
                sequence N, and a mask or None: the real tokens (S, N) of the S = G·sequences,
                or for each token those that it may look at (S, N, N).

        Returns:
            (G, T, D), in the tokens' dtype; attention weights are float32.
        """
        groups, _, width = tokens.shape
        size = width // self.heads
        into = (width, self.heads, size)
        parts = [HeadsDense(into, 1, name=name)() for name in ("query", "key", "value")]
        kernel = jnp.concatenate([k for k, _ in parts], axis=1).astype(tokens.dtype)
        bias = jnp.concatenate([b for _, b in parts]).astype(tokens.dtype)
        # Over rows: of (G, T, D) XLA's CPU back end would transpose both operands of the
        # kernel's gradient.
        rows = tokens.reshape(-1, width)
        mixed = (rows @ kernel + bias).reshape(groups, -1, 3 * width)
        norms = [lambda x: x] * 2
        if self.qk_norm:
            norms = [
                nn.LayerNorm(epsilon=1e-6, use_bias=False, dtype=tokens.dtype, name=name)
                for name in ("query_ln", "key_ln")
            ]
        outputs, start = [], 0
        for count, length, mask in sequences:
            piece = mixed[:, start : start + count * length]
            heads = piece.reshape(groups * count, length, 3, self.heads, size)
            query, key, value = (heads[:, :, i] for i in range(3))
            attended = attend(norms[0](query), norms[1](key), value, mask)
            outputs.append(attended.reshape(groups, count * length, width))
            start += count * length
        kernel, bias = HeadsDense((self.heads, size, width), 2, name="out")()
        joined = jnp.concatenate(outputs, axis=1) if len(outputs) > 1 else outputs[0]
        rows = joined.reshape(-1, width)
        mixed = rows @ kernel.astype(tokens.dtype) + bias.astype(tokens.dtype)
        return mixed.reshape(groups, -1, width)


def attend(
    query: Float[Array, "S N A F"],
    key: Float[Array, "S N A F"],
    value: Float[Array, "S N A F"],
    mask: AttentionMask,
) -> Float[Array, "S N A F"]:
    """Scaled dot-product attention over N tokens of S sequences, with A heads of size F.

    Masked keys get weight 0; a token that may look at none gets equal, finite weights.
    """
    scores = jnp.einsum(
        "snaf,smaf->sanm", query, key, preferred_element_type=jnp.float32
    ) / jnp.sqrt(jnp.float32(query.shape[-1]))
    if mask is not None:
        # Not -inf: a row of padding only would give NaN, also in the gradient.
        seen = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        scores = jnp.where(seen, scores, -1e9)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("sanm,smaf->snaf", weights, value)
