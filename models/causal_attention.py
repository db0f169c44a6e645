"""Multi-query attention to what came before, with and without a cache (PaLM, section 2)."""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .plain_dense import plain_dense
from .rope import rotate


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KeyValues:
    """What a block remembers of R tokens: of one head, since all heads share it.

    Attributes:
        key: (B, R, F), turned to its position already.
        value: (B, R, F).
    """

    key: Float[Array, "B R F"]
    value: Float[Array, "B R F"]


def causal_mask(segments: Int[Array, "B N"]) -> Bool[Array, "B N N"]:
    """True where a token (the middle axis) may look: at itself and before, in its own segment."""
    length = segments.shape[1]
    before = jnp.tril(jnp.ones((length, length), bool))
    return before & (segments[:, :, None] == segments[:, None, :])


class MultiQueryAttention(nn.Module):
    """A heads of queries and a single one of keys and values; no biases.

    Parameters: query/kernel (D, A·F), key/kernel (D, F), value/kernel (D, F), out/kernel (A·F, D).

    Attributes:
        heads: A.
        head_size: F, even.
        rope_base: see `rotate`.
        dtype: of the activations; attention weights are made in float32.
    """

    heads: int
    head_size: int
    rope_base: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B N D"],
        positions: Int[Array, "B N"],
        mask: Bool[Array, "B N R"],
        cache: KeyValues | None = None,
        slot: Int[Array, ""] | Int[Array, " B"] | int = 0,
    ) -> tuple[Float[Array, "B N D"], KeyValues]:
        """Attends.

        Args:
            x: the new tokens.
            positions: theirs, from 0.
            mask: what each new token may look at: among the new ones (R = N), or, with a cache,
                among its slots.
            cache: keys and values so far; the new ones are written into its slots from `slot`.
            slot: the first slot to write to, of all rows or of each.

        Returns:
            (B, N, D) in `dtype`, and all keys and values, the new ones among them.
        """
        batch, length, width = x.shape
        rows = x.reshape(-1, width)  # for the kernels' gradients; see `Mlp`

        def heads(name: str, number: int) -> Array:
            mixed = plain_dense(number * self.head_size, self.dtype, name)(rows)
            return mixed.reshape(batch, length, number, self.head_size)

        query = rotate(heads("query", self.heads), positions, self.rope_base)
        key = rotate(heads("key", 1), positions, self.rope_base)[:, :, 0]
        value = heads("value", 1)[:, :, 0]
        if cache is not None:
            key, value = _written(cache.key, key, slot), _written(cache.value, value, slot)
        attended = attend_shared(query, key, value, mask).reshape(batch * length, -1)
        out = plain_dense(width, self.dtype, "out")(attended)
        return out.reshape(x.shape), KeyValues(key, value)


def _written(
    cache: Float[Array, "B R F"],
    new: Float[Array, "B N F"],
    slot: Int[Array, ""] | Int[Array, " B"] | int,
) -> Float[Array, "B R F"]:
    if isinstance(slot, int) or slot.ndim == 0:
        return lax.dynamic_update_slice_in_dim(cache, new, slot, axis=1)
    rows = jnp.arange(new.shape[0])[:, None]
    return cache.at[rows, slot[:, None] + jnp.arange(new.shape[1])].set(new)


def attend_shared(
    query: Float[Array, "B N A F"],
    key: Float[Array, "B R F"],
    value: Float[Array, "B R F"],
    mask: Bool[Array, "B N R"],
) -> Float[Array, "B N A F"]:
    """Scaled dot-product attention of A heads of queries over one head of R keys.

    Each row of the mask must have a true entry, or the token gets the mean of all values.
    """
    scores = jnp.einsum("bnaf,brf->banr", query, key, preferred_element_type=jnp.float32)
    scores = scores / jnp.sqrt(jnp.float32(query.shape[-1]))
    # The exponential of this is exactly 0, so that a hidden token changes not one bit.
    scores = jnp.where(mask[:, None], scores, -1e9)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("banr,brf->bnaf", weights, value)
