"""The experts' parameters and arithmetic: E two-layer MLPs of equal shape."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .leaf import Leaf


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by its tanh approximation, as in ViT and V-MoE."""
    return jax.nn.gelu(x, approximate=True)


def mlp(
    up: Float[Array, "D H"],
    up_bias: Float[Array, " H"],
    down: Float[Array, "H D"],
    down_bias: Float[Array, " D"],
    x: Float[Array, "... D"],
) -> Float[Array, "... D"]:
    """One dense MLP, in the type of `x`."""
    dtype = x.dtype
    h = gelu(x @ up.astype(dtype) + up_bias.astype(dtype))
    return h @ down.astype(dtype) + down_bias.astype(dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ExpertMlp:
    """E experts, each `gelu(x @ up + up_bias) @ down + down_bias`.

    A pytree whose leaves all lead with the axis of experts, so that it can be
    mapped, scanned, sharded or cut by expert.

    Attributes:
        up: (E, D, H).
        up_bias: (E, H).
        down: (E, H, D).
        down_bias: (E, D).

    Inside a scan or map over E, an instance holds one expert, without that axis.
    """

    up: Leaf
    up_bias: Leaf
    down: Leaf
    down_bias: Leaf

    def astype(self, dtype: DTypeLike) -> ExpertMlp:
        """The same experts in another type (done once, before loops over blocks)."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)

    def batched(self, x: Float[Array, "E N D"]) -> Float[Array, "E N D"]:
        """Each expert on its own N rows, in the type of `x`."""
        w = self.astype(x.dtype)
        h = gelu(jnp.einsum("end,edh->enh", x, w.up) + w.up_bias[:, None])
        return jnp.einsum("enh,ehd->end", h, w.down) + w.down_bias[:, None]
