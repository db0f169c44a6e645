"""Dropless dispatch in blocks: each expert runs over just the rows it was given.

The pairs of all groups are laid out by expert, each expert's run padded to whole blocks,
in one array of fixed worst-case length. A loop over experts takes each one's weights once; an
inner loop, whose length is data, takes its blocks. So the work is that of
G*P + E*block rows at most, whatever the balance, where running every expert at a
capacity that never drops would take E*G*T. Loops of data-dependent length have no
automatic transpose: the backward pass is written here, and recomputes each block
rather than keeping (rows, H) activations.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .assignment import Assignment
from .experts import ExpertMlp, mlp

# The leaves of an ExpertMlp; in the loops, those of one expert, without their first axis.
Weights = tuple[Array, Array, Array, Array]


def dispatch_blocked(
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
    *,
    block: int | None = None,
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Takes dropless assignments, and those with a capacity (whose kept slots are the first of
    each expert's, as every router here makes them).

    Args:
        block: rows per block; None takes `block_size`.
    """
    groups, num_tokens, width = tokens.shape
    pairs = assignment.token.shape[1]
    if block is None:
        block = block_size(groups * pairs, assignment.num_experts)
    row, bounds = _layout(assignment, block)
    num_rows = block * _worst_blocks(groups * pairs, assignment.num_experts, block)
    # Which token sits in which row; row `num_rows` and token G*T stand for "none".
    flat_token = assignment.token + num_tokens * jnp.arange(groups, dtype=jnp.int32)[:, None]
    empty = jnp.full((num_rows,), groups * num_tokens, jnp.int32)
    token_of_row = empty.at[row.reshape(-1)].set(flat_token.reshape(-1), mode="drop")
    rows = tokens.reshape(-1, width).at[token_of_row].get(mode="fill", fill_value=0)
    cast = experts.astype(tokens.dtype)
    weights = (cast.up, cast.up_bias, cast.down, cast.down_bias)
    out: Array = _run_blocks(block, rows, weights, bounds)
    picked = out.at[row].get(mode="fill", fill_value=0).astype(jnp.float32)
    scaled = assignment.weight[..., None] * picked
    if assignment.layout == "token":
        return jnp.sum(scaled.reshape(groups, num_tokens, -1, width), axis=2)
    index = jnp.arange(groups, dtype=jnp.int32)[:, None]
    zeros = jnp.zeros((groups, num_tokens, width), jnp.float32)
    return zeros.at[index, assignment.token].add(scaled)


def block_size(pairs: int, num_experts: int) -> int:
    """Rows per block: about a quarter of an expert's even share, a power of two in 8..128.

    Small blocks waste little padding (half a block per expert), large ones use the cores'
    caches and add up weight gradients less often.
    """
    share = max(pairs // (4 * num_experts), 1)
    return min(128, max(8, 1 << (share.bit_length() - 1)))


def _worst_blocks(pairs: int, num_experts: int, block: int) -> int:
    """Blocks that suffice however the pairs fall on the experts."""
    return (pairs + num_experts * (block - 1)) // block


def _layout(assignment: Assignment, block: int) -> tuple[Int[Array, "G P"], Int[Array, " bounds"]]:
    """The row of each pair (past the end where not kept), and the E+1 bounds of blocks."""
    groups, pairs = assignment.token.shape
    experts = assignment.num_experts
    number = jnp.where(assignment.kept, assignment.expert, experts)
    rows = jnp.arange(groups, dtype=jnp.int32)[:, None]
    counts = jnp.zeros((groups, experts), jnp.int32).at[rows, number].add(1, mode="drop")
    blocks = -(-jnp.sum(counts, axis=0) // block)
    bounds = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(blocks)]).astype(jnp.int32)
    before = jnp.cumsum(counts, axis=0) - counts  # of the same expert, in earlier groups
    start = bounds[None, :-1] * block + before
    row = jnp.take_along_axis(start, assignment.expert, axis=1) + assignment.slot
    return jnp.where(assignment.kept, row, _worst_blocks(groups * pairs, experts, block) * block), (
        bounds
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run_blocks(
    block: int, rows: Float[Array, "R D"], weights: Weights, bounds: Int[Array, " bounds"]
) -> Float[Array, "R D"]:
    def per_expert(out, xs):
        w, begin, end = xs

        def per_block(i, out):
            x = lax.dynamic_slice_in_dim(rows, i * block, block)
            return lax.dynamic_update_slice_in_dim(out, _mlp(w, x), i * block, 0)

        return lax.fori_loop(begin, end, per_block, out), None

    out, _ = lax.scan(per_expert, jnp.zeros_like(rows), (weights, bounds[:-1], bounds[1:]))
    return out


def _run_blocks_fwd(block, rows, weights, bounds):
    return _run_blocks(block, rows, weights, bounds), (rows, weights, bounds)


def _run_blocks_bwd(block, residuals, grad):
    rows, weights, bounds = residuals

    def per_expert(d_rows, xs):
        w, begin, end = xs

        def per_block(i, carry):
            d_rows, d_w = carry
            x, dy = (lax.dynamic_slice_in_dim(a, i * block, block) for a in (rows, grad))
            dw, dx = jax.vjp(_mlp, w, x)[1](dy)
            # In bf16 the sum over blocks would lose what a single product keeps.
            d_w = jax.tree.map(lambda total, part: total + part.astype(jnp.float32), d_w, dw)
            return lax.dynamic_update_slice_in_dim(d_rows, dx, i * block, 0), d_w

        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), w)
        d_rows, d_w = lax.fori_loop(begin, end, per_block, (d_rows, zero))
        return d_rows, jax.tree.map(lambda total, leaf: total.astype(leaf.dtype), d_w, w)

    d_rows, d_weights = lax.scan(
        per_expert, jnp.zeros_like(rows), (weights, bounds[:-1], bounds[1:])
    )
    return d_rows, d_weights, None


_run_blocks.defvjp(_run_blocks_fwd, _run_blocks_bwd)


def _mlp(w: Weights, x: Float[Array, "N D"]) -> Float[Array, "N D"]:
    up, up_bias, down, down_bias = w
    return mlp(up, up_bias, down, down_bias, x)
