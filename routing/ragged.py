"""Products of rows, sorted by expert, with each expert's own weights.

Rows `0 .. sizes[0]-1` are expert 0's, the next `sizes[1]` expert 1's and so on; what lies past
`sum(sizes)` is nobody's, reads as zero and gets no gradient. Who multiplies is an argument
(`RaggedProducts`): blocks on a CPU (`dispatch_blocked`), kernels on accelerators
(`dispatch_grouped`), so that the arithmetic around them is written and tested once.
"""

from __future__ import annotations

import functools
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .experts import ExpertMlp, gelu


@runtime_checkable
class RaggedProducts(Protocol):
    """A linear layer and its transpose, summed in float32 and returned in the type of `rows`.

    Hashable. Rows past `sum(sizes)` enter as zeros, and may come back as anything.
    """

    def linear(
        self,
        rows: Float[Array, "R A"],
        weights: Float[Array, "E A B"],
        bias: Float[Array, "E B"],
        sizes: Int[Array, " E"],
    ) -> Float[Array, "R B"]:
        """Each row times its expert's weights, plus its bias."""
        ...

    def transpose(
        self,
        grad: Float[Array, "R B"],
        rows: Float[Array, "R A"],
        weights: Float[Array, "E A B"],
        sizes: Int[Array, " E"],
    ) -> tuple[Float[Array, "R A"], Float[Array, "E A B"], Float[Array, "E B"]]:
        """Gradients by rows, weights and bias."""
        ...


def grouped_mlp(
    products: RaggedProducts,
    rows: Float[Array, "R D"],
    sizes: Int[Array, " E"],
    experts: ExpertMlp,
) -> Float[Array, "R D"]:
    """Each row through its expert's MLP, in the type of `rows`; zero past `sum(sizes)`.

    The backward pass keeps the rows and the (R, H) values before and after the GELU; under
    `jax.checkpoint` it keeps neither.

    Args:
        products: who multiplies.
        rows: sorted by expert.
        sizes: int32, how many rows each expert has; they add up to R at most.
        experts: of the type of `rows`, or cast to it.
    """
    w = experts.astype(rows.dtype)
    inside = (jnp.arange(rows.shape[0], dtype=jnp.int32) < jnp.sum(sizes))[:, None]
    hidden = gelu(_linear(products, rows, w.up, w.up_bias, sizes, inside))
    return _linear(products, hidden, w.down, w.down_bias, sizes, inside)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _linear(
    products: RaggedProducts,
    rows: Float[Array, "R A"],
    weights: Float[Array, "E A B"],
    bias: Float[Array, "E B"],
    sizes: Int[Array, " E"],
    inside: Bool[Array, "R 1"],
) -> Float[Array, "R B"]:
    # Kernels do not write the rows past the end: whatever was in memory must not get out.
    return jnp.where(inside, products.linear(rows, weights, bias, sizes), 0)


def _linear_fwd(products, rows, weights, bias, sizes, inside):
    out = _linear(products, rows, weights, bias, sizes, inside)
    return out, (rows, weights, sizes, inside)


def _linear_bwd(products, residuals, grad):
    rows, weights, sizes, inside = residuals
    grad = jnp.where(inside, grad, 0)
    d_rows, d_weights, d_bias = products.transpose(grad, rows, weights, sizes)
    return jnp.where(inside, d_rows, 0), d_weights, d_bias, None, None


_linear.defvjp(_linear_fwd, _linear_bwd)
