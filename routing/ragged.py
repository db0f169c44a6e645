"""Products of rows, sorted by expert, with each expert's own weights.

Rows `0 .. sizes[0]-1` are expert 0's, the next `sizes[1]` expert 1's and so on; what lies past
`sum(sizes)` is nobody's, reads as zero and gets no gradient. Who multiplies is an argument
(`RaggedProducts`): blocks on a CPU (`dispatch_blocked`), kernels on accelerators
(`dispatch_grouped`), so that the arithmetic around them is written and tested once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .activations import ACTIVATIONS, ActivationName
from .experts import ExpertMlp, Weights
from .varying import vary_alike

Activation = Callable[[Array], Array]  # element by element


def unchanged(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """No activation."""
    return x


@runtime_checkable
class RaggedProducts(Protocol):
    """A linear layer and its transpose, summed in float32 and returned in the type of `rows`.

    Hashable. Rows past `sum(sizes)` enter and come back as anything that is finite. The
    activation that comes before the layer is theirs to apply, since blocks of rows do it while
    they are in the cache.
    """

    def linear(
        self,
        rows: Float[Array, "R A"],
        weights: Float[Array, "E A B"],
        bias: Float[Array, "E B"],
        sizes: Int[Array, " E"],
        activation: Activation,
    ) -> Float[Array, "R B"]:
        """Each activated row times its expert's weights, plus its bias."""
        ...

    def transpose(
        self,
        grad: Float[Array, "R B"],
        rows: Float[Array, "R A"],
        weights: Float[Array, "E A B"],
        sizes: Int[Array, " E"],
        activation: Activation,
    ) -> tuple[Float[Array, "R A"], Float[Array, "E A B"], Float[Array, "E B"]]:
        """Gradients by rows (before the activation), weights and bias."""
        ...


def grouped_mlp(
    products: RaggedProducts,
    rows: Float[Array, "R D"],
    sizes: Int[Array, " E"],
    experts: ExpertMlp,
) -> Float[Array, "R D"]:
    """Each row through its expert's MLP, in the type of `rows`; zero past `sum(sizes)`.

    The backward pass keeps the rows and the (R, H) sums before the GELU, which is worked out
    again; under `jax.checkpoint` it keeps neither.

    Args:
        products: who multiplies.
        rows: sorted by expert; zero past `sum(sizes)`.
        sizes: int32, how many rows each expert has; they add up to R at most.
        experts: of the type of `rows`, or cast to it.
    """
    # Cast before they change type, so that devices add up gradients in the weights' own.
    rows, sizes, experts = vary_alike(rows, sizes, experts)
    inside = (jnp.arange(rows.shape[0], dtype=jnp.int32) < jnp.sum(sizes))[:, None]
    # Nobody's rows are blanked where they are narrow, on the way in and out, backwards too.
    weights = experts.astype(rows.dtype).weights
    rows = jnp.where(inside, rows, 0)
    out: Any = _mlp(products, experts.activation, rows, weights, sizes)
    return jnp.where(inside, out, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _mlp(
    products: RaggedProducts,
    activation: ActivationName,
    rows: Float[Array, "R D"],
    weights: Weights,
    sizes: Int[Array, " E"],
) -> Float[Array, "R D"]:
    return _mlp_fwd(products, activation, rows, weights, sizes)[0]


def _mlp_fwd(products, activation, rows, weights, sizes):
    up, up_bias, down, down_bias = weights
    sums = products.linear(rows, up, up_bias, sizes, unchanged)
    out = products.linear(sums, down, down_bias, sizes, ACTIVATIONS[activation])
    return out, (rows, sums, weights, sizes)


def _mlp_bwd(products, activation, residuals, grad):
    rows, sums, (up, _, down, _), sizes = residuals
    act = ACTIVATIONS[activation]
    d_sums, d_down, d_down_bias = products.transpose(grad, sums, down, sizes, act)
    d_rows, d_up, d_up_bias = products.transpose(d_sums, rows, up, sizes, unchanged)
    return d_rows, (d_up, d_up_bias, d_down, d_down_bias), None


_mlp.defvjp(_mlp_fwd, _mlp_bwd)
