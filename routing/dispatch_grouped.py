"""Dropless dispatch by grouped matrix products: for accelerators, whatever the balance.

The kept pairs are sorted by expert, and one kernel multiplies each expert's run of rows with its
weights; there is no capacity, no padding to blocks and no (T, E, C) array. Without
kernels `jax.lax.ragged_dot` runs every expert over every row, so a CPU takes the blocks of
`dispatch_blocked` instead.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import backend
from jaxtyping import Array, Float, Int

from .assignment import Assignment
from .dispatch_blocked import dispatch_blocked
from .experts import ExpertMlp
from .ragged import RaggedProducts, grouped_mlp
from .rows import rows_to_tokens, sorted_rows, take, tokens_to_rows
from .tokamax_kernels import tokamax_ragged_dot

# (rows, weights, sizes, which axes) -> product, in the type of the operands, summed in float32.
RaggedDot = Callable[[Array, Array, Array, lax.RaggedDotDimensionNumbers], Array]


def dispatch_grouped(
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
    *,
    products: RaggedProducts | None = None,
    block: int | None = None,
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Takes dropless assignments, and those with a capacity. Which products run is decided when
    the function is traced, by the platform of JAX's default device, as tokamax chooses among its
    kernels: choosing when XLA lowers (`jax.lax.platform_dependent`) would trace, and so import,
    tokamax on a CPU too.

    Args:
        products: who multiplies; None takes tokamax, or on a CPU the blocks.
        block: rows per unit of those blocks; see `dispatch_blocked`.

    Returns:
        (G, T, D) float32; zero for a token with no kept pair.

    Raises:
        ImportError: the default device is no CPU and tokamax is not installed.
    """
    if products is None:
        if backend.get_default_device().platform == "cpu":
            return dispatch_blocked(assignment, tokens, experts, block=block)
        products = KernelProducts(tokamax_ragged_dot)
    rows = sorted_rows(assignment)
    values = tokens_to_rows(assignment, rows, tokens)
    out = grouped_mlp(products, values, rows.sizes, experts)
    return rows_to_tokens(assignment, rows, out)


_ROWS_BY_WEIGHTS = lax.RaggedDotDimensionNumbers((((1,), (1,)), ((), ())), [0], [0])
_ROWS_BY_TRANSPOSED = lax.RaggedDotDimensionNumbers((((1,), (2,)), ((), ())), [0], [0])
_ROWS_BY_ROWS = lax.RaggedDotDimensionNumbers((((0,), (0,)), ((), ())), [0], [])


@dataclasses.dataclass(frozen=True)
class KernelProducts:
    """`RaggedProducts` by a ragged dot, asked for each of the three products by itself.

    (Its own derivative is not used: with it, the kernel that was chosen forward must also do
    both backward products, which for some GPUs it cannot.)

    Attributes:
        ragged_dot: takes what `jax.lax.ragged_dot_general` takes first.
    """

    ragged_dot: RaggedDot

    def linear(self, rows, weights, bias, sizes, activation):
        last, number = jnp.cumsum(sizes), jnp.arange(rows.shape[0])
        expert = jnp.searchsorted(last, number, side="right")
        out = self._dot(_ROWS_BY_WEIGHTS, activation(rows), weights, sizes) + take(bias, expert)
        # Kernels do not write the rows past the end: whatever was in memory must not get out.
        return jnp.where((number < last[-1])[:, None], out, 0)

    def transpose(self, grad, rows, weights, sizes, activation):
        active, pull = jax.vjp(activation, rows)
        last, number = jnp.cumsum(sizes)[:, None], jnp.arange(rows.shape[0])
        d_active = self._dot(_ROWS_BY_TRANSPOSED, grad, weights, sizes)
        (d_rows,) = pull(jnp.where((number < last[-1])[:, None], d_active, 0))
        d_weights = self._dot(_ROWS_BY_ROWS, active, grad, sizes)
        own = (number < last) & (number >= last - sizes[:, None])
        # A product over one-hot rows costs E/D of the others; a scatter-add would be serial.
        d_bias = jnp.einsum(
            "er,rb->eb", own.astype(grad.dtype), grad, preferred_element_type=jnp.float32
        )
        return d_rows, d_weights, d_bias.astype(grad.dtype)

    def _dot(
        self,
        dims: lax.RaggedDotDimensionNumbers,
        left: Float[Array, "R _"],
        right: Float[Array, "..."],
        sizes: Int[Array, " E"],
    ) -> Float[Array, "..."]:
        # Kernels know no batches: under vmap they take turns.
        dot = functools.partial(self._unbatched, dims)
        return jax.custom_batching.sequential_vmap(dot)(left, right, sizes)

    def _unbatched(self, dims, left, right, sizes):
        return self.ragged_dot(left, right, sizes, dims)
