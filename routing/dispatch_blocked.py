"""Dropless dispatch on a CPU: each expert runs over just the rows it was given.

The pairs of all groups are sorted by expert. A loop over experts takes each one's weights
once and multiplies its run of rows in one block where it can: a block's size is one
of a few multiples of a unit, so that the product is padded by half a unit on average, and
its weights are packed, and its gradients added up, once. The work is that of G*P + E*unit rows
at most, whatever the balance, where running every expert at a capacity that never drops
would take E*G*T. Loops of data-dependent length have no automatic transpose: the backward
pass is `ragged`'s, made of the same loops.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .assignment import Assignment
from .experts import ExpertMlp
from .ragged import grouped_mlp
from .rows import rows_to_tokens, sorted_rows, tokens_to_rows


def dispatch_blocked(
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
    *,
    block: int | None = None,
    sized_for: int | None = None,
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Takes dropless assignments, and those with a capacity.

    Args:
        block: rows per unit; None takes `block_size`.
        sized_for: blocks are sized as for so many experts; None is E.

    Returns:
        (G, T, D) float32; zero for a token with no kept pair.

    Raises:
        ValueError: block < 1.
    """
    groups, pairs = assignment.token.shape
    share = assignment.num_experts if sized_for is None else sized_for
    if block is None:
        block = block_size(groups * pairs, share)
    if block < 1:
        raise ValueError(f"block={block}: a block has at least one row")
    sizes = block_sizes(groups * pairs, share, block)
    # The last expert's last block may reach past the end.
    rows = sorted_rows(assignment, extra=sizes[-1])
    values = tokens_to_rows(assignment, rows, tokens)
    out = grouped_mlp(BlockedProducts(sizes), values, rows.sizes, experts)
    return rows_to_tokens(assignment, rows, out)


def block_size(pairs: int, num_experts: int) -> int:
    """Rows per unit: about a sixteenth of an expert's even share, a power of two in 8..64."""
    share = max(pairs // (16 * num_experts), 1)
    return min(64, max(8, 1 << (share.bit_length() - 1)))


def block_sizes(pairs: int, num_experts: int, unit: int) -> tuple[int, ...]:
    """Rows of a block, ascending: close together near an even share, where most runs end.

    Each size is a loop of its own to compile, so there are few.
    """
    units = -(-pairs // (num_experts * unit))
    near = {4, 8, 12, 15, 16, 17, 18, 20, 24} if units > 8 else {1, 2, 4, 8}
    fit = {n for n in near if n <= max(2 * units, 1)}
    return tuple(unit * n for n in sorted(fit or {1}))


@dataclasses.dataclass(frozen=True)
class BlockedProducts:
    """`RaggedProducts` in blocks; rows must reach `sizes[-1]` past the last that is used.

    Attributes:
        block_sizes: rows of a block, ascending.
    """

    block_sizes: tuple[int, ...]

    def linear(self, rows, weights, bias, sizes, activation):
        def per_expert(out, xs):
            w, b, start, size = xs

            def block(out, begin, length, _):
                x = activation(lax.dynamic_slice_in_dim(rows, begin, length))
                # Rows of the next expert are overwritten when its turn comes.
                return lax.dynamic_update_slice_in_dim(out, x @ w + b, begin, 0)

            return self._run(block, out, start, size), None

        xs = (weights, bias, jnp.cumsum(sizes) - sizes, sizes)
        return lax.scan(per_expert, _filled(rows, bias[0, 0], bias.shape[1]), xs)[0]

    def transpose(self, grad, rows, weights, sizes, activation):
        kind = rows.dtype

        def per_expert(carry, xs):
            expert, w, start, size = xs

            def block(carry, begin, length, left):
                d_rows, d_w, d_b = carry
                z, dy = (lax.dynamic_slice_in_dim(a, begin, length) for a in (rows, grad))
                x, pull = jax.vjp(activation, z)
                d_rows = lax.dynamic_update_slice_in_dim(d_rows, pull(dy @ w.T)[0], begin, 0)
                mine = jnp.arange(length) < left
                # The next expert's rows must not count: blank the narrower of the factors.
                if x.shape[1] < dy.shape[1]:
                    x = jnp.where(mine[:, None], x, 0)
                    db = _dot(mine.astype(kind)[None], dy, 1)[0]
                else:
                    dy = jnp.where(mine[:, None], dy, 0)
                    db = jnp.sum(dy, axis=0, dtype=jnp.float32)
                return d_rows, _add(d_w, expert, _dot(x, dy, 0)), _add(d_b, expert, db)

            return self._run(block, carry, start, size), None

        # In bf16 the sum over blocks would lose what a single product keeps.
        totals = (
            jnp.zeros_like(weights, jnp.float32),
            jnp.zeros_like(weights, jnp.float32, shape=(weights.shape[0], weights.shape[2])),
        )
        number = jnp.arange(weights.shape[0], dtype=jnp.int32)
        xs = (number, weights, jnp.cumsum(sizes) - sizes, sizes)
        carry = (_filled(rows, grad[0, 0], rows.shape[1]), *totals)
        (d_rows, d_w, d_b), _ = lax.scan(per_expert, carry, xs)
        return d_rows, d_w.astype(kind), d_b.astype(kind)

    def _run(self, block: Callable, carry, start, size):
        """Fold `block(carry, begin, length, left)` over one expert's run of `size` rows."""
        largest = self.block_sizes[-1]
        below = (0, *self.block_sizes[:-1])
        # As many of the largest as there are, counting what is left where nothing smaller holds it.
        full = (size + largest - 1 - below[-1]) // largest
        left = size - full * largest

        def at(length, first):
            def step(i, carry):
                done = first + i * length
                return block(carry, start + done, length, size - done)

            return step

        carry = lax.fori_loop(0, full, at(largest, 0), carry)
        # A loop of one turn or none, since XLA updates a loop's arrays in place (and uses all
        # cores in it), but copies those of a conditional.
        for previous, length in zip(below, self.block_sizes[:-1], strict=False):
            now = (left > previous) & (left <= length)
            carry = lax.fori_loop(0, now.astype(jnp.int32), at(length, full * largest), carry)
        return carry


def _filled(
    rows: Float[Array, "R _"], value: Float[Array, ""], width: int
) -> Float[Array, "R {width}"]:
    """What a loop overwrites. Zeros would do, but all loops would share and first copy them."""
    return jnp.full((rows.shape[0], width), value)


def _add(stack: Array, expert: Int[Array, ""], value: Array) -> Array:
    """In place, in a loop; the index is known to be inside."""
    old = lax.dynamic_index_in_dim(stack, expert, keepdims=False)
    return lax.dynamic_update_index_in_dim(stack, old + value, expert, 0)


def _dot(left: Array, right: Array, axis: int) -> Array:
    """left and right multiplied along this axis of the first and axis 0 of the second, float32."""
    return lax.dot_general(
        left, right, (((axis,), (0,)), ((), ())), preferred_element_type=jnp.float32
    )
