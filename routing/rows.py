"""The pairs of all groups as one list of rows, sorted by expert; tokens to rows and back.

As in `dispatch_index`, neither direction scatters rows where a token has K pairs: the transpose
of each gather is a gather again, which XLA does not see by itself.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .assignment import Assignment
from .leaf import Leaf
from .varying import vary_alike


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """Where each kept pair sits among R rows sorted by expert, and who sits in each row.

    Attributes:
        token: (R,) int32, g*T+t of the row's token; G*T in rows past the end.
        pair: (R,) int32, g*P+p of the row's pair; G*P in rows past the end.
        row: (G*P,) int32, each pair's row; R where it is not kept.
        sizes: (E,) int32, rows of each expert.
    """

    token: Leaf
    pair: Leaf
    row: Leaf
    sizes: Leaf


def sorted_rows(assignment: Assignment, extra: int = 0) -> Rows:
    """The kept pairs by expert, within one by group and in their order there.

    R is the most pairs that can be kept, G*P or G*E*C if that is less, and `extra` more.
    """
    groups, pairs = assignment.token.shape
    experts, total = assignment.num_experts, groups * pairs
    most = total
    if assignment.capacity is not None:
        most = min(most, groups * experts * assignment.capacity)
    # What is not kept joins expert E, past the end.
    key = jnp.where(assignment.kept, assignment.expert, experts).reshape(-1)
    order = jnp.argsort(key, stable=True).astype(jnp.int32)[:most]
    sizes = jnp.sum(key[:, None] == jnp.arange(experts), axis=0, dtype=jnp.int32)
    rows = jnp.arange(most + extra, dtype=jnp.int32)
    pair = jnp.where(rows < jnp.sum(sizes), jnp.pad(order, (0, extra)), total)
    row = jnp.full((total,), most + extra, jnp.int32)
    row = row.at[pair].set(rows, mode="drop", unique_indices=False)
    first = assignment.num_tokens * jnp.arange(groups, dtype=jnp.int32)[:, None]
    token = take((assignment.token + first).reshape(-1), pair, groups * assignment.num_tokens)
    return Rows(token=token, pair=pair, row=row, sizes=sizes)


def take(values: Num[Array, "N ..."], index: Int[Array, "..."], fill=0) -> Num[Array, "..."]:
    """values[index], or `fill` where the index is past the end."""
    return values.at[index].get(mode="fill", fill_value=fill)


def tokens_to_rows(
    assignment: Assignment, rows: Rows, tokens: Float[Array, "G T D"]
) -> Float[Array, "R D"]:
    """Each row's token; zero in rows past the end."""
    rows, tokens = vary_alike(rows, tokens)
    flat = tokens.reshape(-1, tokens.shape[-1])
    if assignment.layout == "expert":
        return take(flat, rows.token)
    return _to_rows(flat, rows.token, rows.row.reshape(flat.shape[0], -1))


def rows_to_tokens(
    assignment: Assignment, rows: Rows, values: Float[Array, "R D"]
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * value, float32; zero where it has none."""
    assignment, rows, values = vary_alike(assignment, rows, values)
    groups, count, width = assignment.token.shape[0], assignment.num_tokens, values.shape[-1]
    if assignment.layout == "token":
        row = rows.row.reshape(groups * count, -1)
        weight = assignment.weight.reshape(row.shape)
        return _from_rows(values, weight, rows.token, row, rows.pair).reshape(groups, count, width)
    # A token may have any number of pairs here: the sum over them is a true scatter.
    weight = take(assignment.weight.reshape(-1), rows.pair)
    out = jnp.zeros((groups * count, width), jnp.float32)
    out = out.at[rows.token].add(weight[:, None] * values.astype(jnp.float32), mode="drop")
    return out.reshape(groups, count, width)


def _weighted_sum(
    values: Float[Array, "R D"], weight: Float[Array, "N K"] | None, row: Int[Array, "N K"]
) -> Float[Array, "N D"]:
    """Sum over K of weight * row, float32."""
    total = jnp.zeros((row.shape[0], values.shape[-1]), jnp.float32)
    # One gather per choice fuses with its multiplication and the sum.
    for k in range(row.shape[1]):
        part = take(values, row[:, k]).astype(jnp.float32)
        total += part if weight is None else weight[:, k, None] * part
    return total


@jax.custom_vjp
def _to_rows(
    tokens: Float[Array, "N D"], token: Int[Array, " R"], row: Int[Array, "N K"]
) -> Float[Array, "R D"]:
    return take(tokens, token)


def _to_rows_fwd(tokens, token, row):
    return take(tokens, token), row


def _to_rows_bwd(row, grad):
    return _weighted_sum(grad, None, row).astype(grad.dtype), None, None


_to_rows.defvjp(_to_rows_fwd, _to_rows_bwd)


@jax.custom_vjp
def _from_rows(
    values: Float[Array, "R D"],
    weight: Float[Array, "N K"],
    token: Int[Array, " R"],
    row: Int[Array, "N K"],
    pair: Int[Array, " R"],
) -> Float[Array, "N D"]:
    return _weighted_sum(values, weight, row)


def _from_rows_fwd(values, weight, token, row, pair):
    return _weighted_sum(values, weight, row), (values, weight, token, row, pair)


def _from_rows_bwd(residuals, grad):
    values, weight, token, row, pair = residuals
    # Back in the rows, both gradients need the same gather.
    rows = take(grad, token)
    scale = take(weight.reshape(-1), pair)[:, None]
    per_row = jnp.sum(rows * values.astype(jnp.float32), axis=-1)
    return (scale * rows).astype(values.dtype), take(per_row, row), None, None, None


_from_rows.defvjp(_from_rows_fwd, _from_rows_bwd)
