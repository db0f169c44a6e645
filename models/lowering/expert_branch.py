"""An expert as a branch of a switch: two products and a GELU over its rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...routing import ACTIVATIONS, ActivationName

Weights = tuple[Any, Any, Any, Any]


@dataclasses.dataclass(frozen=True)
class ExpertBranch:
    """Params are up (D, H), up_bias (H,), down (H, D), down_bias (D,), of any float types.

    What it saves for the backward pass are the sums before the GELU, (N, H).

    Attributes:
        activation: of the hidden units.
    """

    activation: ActivationName

    def forward(
        self, params: Weights, rows: Float[Array, "N D"]
    ) -> tuple[Float[Array, "N D"], Float[Array, "N H"]]:
        up, up_bias, down, down_bias = (w.astype(rows.dtype) for w in params)
        sums = rows @ up + up_bias
        return ACTIVATIONS[self.activation](sums) @ down + down_bias, sums

    def backward(
        self,
        params: Weights,
        rows: Float[Array, "N D"],
        saved: Float[Array, "N H"] | None,
        grad: Float[Array, "N D"],
    ) -> tuple[Float[Array, "N D"], Weights]:
        up, up_bias, down, _ = (w.astype(rows.dtype) for w in params)
        sums = rows @ up + up_bias if saved is None else saved
        hidden, pull = jax.vjp(ACTIVATIONS[self.activation], sums)
        (d_sums,) = pull(grad @ down.T)
        grads = (_dot(rows, d_sums), jnp.sum(d_sums, 0), _dot(hidden, grad), jnp.sum(grad, 0))
        found = tuple(g.astype(w.dtype) for g, w in zip(grads, params, strict=True))
        return d_sums @ up.T, found


def _dot(left: Array, right: Array) -> Array:
    """left^T right."""
    return lax.dot_general(
        left,
        right,
        (((0,), (0,)), ((), ())),
        preferred_element_type=jnp.promote_types(left.dtype, jnp.float32),
    )
