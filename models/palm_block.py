"""PaLM's parallel block, dense or sparse."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from ..routing import Assignment, RoutingSums
from .causal_attention import KeyValues, MultiQueryAttention
from .groups import whole_sequence_groups
from .moe import Moe
from .palm_config import PalmConfig
from .swiglu import SwiGlu


def sequence_groups(config: PalmConfig, batch: int, length: int) -> int:
    """G: whole rows of N tokens make a group, as many as fit the group size and divide the batch.

    In its group a row stands in token order behind the rows before it.
    """
    return whole_sequence_groups(config.moe, batch, length)


class PalmBlock(nn.Module):
    """y = x + MLP(LN(x)) + attention(LN(x)) with one LN, which has a scale and no bias.

    In a sparse block the MLP is a `Moe`, whose experts are GELU MLPs with biases, as in the
    rest of this package, and begin independently of one another.
    """

    config: PalmConfig
    sparse: bool
    kept: tuple[int, ...] | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N D"],
        tokens: Int[Array, "B N"],
        positions: Int[Array, "B N"],
        mask: Bool[Array, "B N R"],
        real: Bool[Array, "B N"],
        cache: KeyValues | None,
        slot: Int[Array, ""] | Int[Array, " B"] | int,
        *,
        train: bool,
        noise_keys: Key[Array, " G"] | None,
    ) -> tuple[Float[Array, "B N D"], KeyValues, RoutingSums | None, Assignment | None]:
        """Returns what `x` becomes, keys and values, and what the router did (None if dense).

        Args:
            x: activations of the new tokens.
            tokens: what they are, for the hash router.
            positions, mask, cache, slot: see `MultiQueryAttention`.
            real: false for padding, which is never routed.
            train, noise_keys: see `Moe`.
        """
        c = self.config
        dtype = jnp.dtype(c.dtype)
        inner = palm_norm(c, "norm")(x)
        attention = MultiQueryAttention(c.heads, c.head_size, c.rope_base, dtype, name="attention")
        attended, cache = attention(inner, positions, mask, cache, slot)
        if not self.sparse:
            return x + SwiGlu(c.hidden, dtype, name="mlp")(inner) + attended, cache, None, None
        groups = sequence_groups(c, *tokens.shape)
        ids = tokens.reshape(groups, -1)
        moe = Moe(c.moe, c.hidden, 1, dtype, shared_init=False, kept=self.kept, name="moe")
        change, sums, assignment = moe(
            inner.reshape(groups, -1, c.width),
            real.reshape(groups, -1),
            jnp.zeros_like(ids),
            train=train,
            noise_keys=noise_keys,
            ids=ids,
        )
        return x + change.reshape(x.shape) + attended, cache, sums, assignment


def palm_norm(config: PalmConfig, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with a scale and no bias; to be owned."""
    dtype = jnp.dtype(config.dtype)
    return nn.LayerNorm(epsilon=1e-6, use_bias=False, dtype=dtype, name=name)
