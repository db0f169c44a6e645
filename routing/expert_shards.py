"""What one device does in `expert_parallel`: its groups' tokens, and its own experts.

Both forms send rows to the devices that have their experts, run these, and take the rows
back; tokens are gathered and results weighted at home, with float32 gates.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .assignment import Assignment
from .dispatch_blocked import block_size
from .dispatch_grouped import dispatch_grouped
from .dispatch_index import dispatch_index
from .exchange import fixed_exchange, ragged_exchange, who_arrived
from .experts import ExpertMlp
from .rows import Rows, rows_to_tokens, sorted_rows, take, tokens_to_rows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AwayExperts(ExpertMlp):
    """All E experts, as seen from one of the n devices that hold E/n each.

    Attributes:
        axis: name of the mesh axis along which they lie.
    """

    axis: str = dataclasses.field(metadata={"static": True}, default="expert")

    def batched(self, x: Float[Array, "E N D"]) -> Float[Array, "E N D"]:
        """Each expert on its own N rows of this device, wherever it is."""
        # (E, N, D) -> (E/n, n*N, D): one part from each device, in order.
        here = lax.all_to_all(x, self.axis, split_axis=0, concat_axis=1, tiled=True)
        out = super().batched(here)
        return lax.all_to_all(out, self.axis, split_axis=1, concat_axis=0, tiled=True)


def shard_with_capacity(
    assignment: Assignment, tokens: Float[Array, "g T D"], experts: ExpertMlp, *, axis: str
) -> Float[Array, "g T D"]:
    """One device's part where experts have slots: index dispatch into buffers that travel."""
    w = experts.astype(tokens.dtype)
    away = AwayExperts(*w.weights, w.activation, axis=axis)
    return dispatch_index(assignment, tokens, away)


def shard_dropless(
    assignment: Assignment,
    tokens: Float[Array, "g T D"],
    experts: ExpertMlp,
    *,
    axis: str,
    ragged: bool,
) -> Float[Array, "g T D"]:
    """One device's part without capacity: rows sorted by expert travel, and find it by counts."""
    devices = lax.axis_size(axis)
    groups, pairs = assignment.token.shape
    rows = sorted_rows(assignment)
    counts = rows.sizes.reshape(devices, -1)
    arrived = lax.all_to_all(counts, axis, split_axis=0, concat_axis=0, tiled=True)
    length = devices * groups * pairs
    if ragged:
        # n*n integers: the only thing that every device learns about all others.
        sizes = lax.all_gather(jnp.sum(counts, axis=1), axis)
        values = tokens_to_rows(assignment, rows, tokens)
        here: Array = ragged_exchange(axis, length, groups * pairs, values, sizes)
        expert, real = who_arrived(arrived, length, None)
        out = _run_here(here, expert, real, experts, groups * pairs)
        back: Array = ragged_exchange(axis, groups * pairs, length, out, sizes.T)
        return rows_to_tokens(assignment, rows, back)
    rows = spread(rows, jnp.sum(counts, axis=1), groups * pairs, assignment)
    here = fixed_exchange(axis, tokens_to_rows(assignment, rows, tokens))
    expert, real = who_arrived(arrived, length, groups * pairs)
    back = fixed_exchange(axis, _run_here(here, expert, real, experts, groups * pairs))
    return rows_to_tokens(assignment, rows, back)


def spread(rows: Rows, sizes: Array, stride: int, assignment: Assignment) -> Rows:
    """The same rows with each device's part at a multiple of `stride`, for fixed buffers.

    Args:
        rows: sorted by device.
        sizes: (n,) rows for each device.
        stride: room for each device.
        assignment: the rows' own; says what stands for nobody.
    """
    devices = sizes.shape[0]
    start = jnp.cumsum(sizes) - sizes
    offset = jnp.arange(stride, dtype=jnp.int32)
    # Row j*stride+i holds the i-th row for device j.
    packed = jnp.where(offset < sizes[:, None], start[:, None] + offset, rows.token.shape[0])
    packed = packed.reshape(-1)
    device = jnp.searchsorted(jnp.cumsum(sizes), rows.row, side="right").astype(jnp.int32)
    moved = device * stride + rows.row - take(start, device)
    groups, pairs = assignment.token.shape
    return Rows(
        token=take(rows.token, packed, groups * assignment.num_tokens),
        pair=take(rows.pair, packed, groups * pairs),
        row=jnp.where(device < devices, moved, devices * stride),
        sizes=rows.sizes,
    )


def _run_here(
    rows: Float[Array, "L D"], expert: Array, real: Array, experts: ExpertMlp, usual: int
) -> Float[Array, "L D"]:
    """Rows that arrived through this device's experts, in the type they came in.

    Blocks on a CPU are cut to the `usual` number of rows, not to the worst that fits.
    """
    block = block_size(usual, experts.up.shape[0])
    local = Assignment(
        token=jnp.arange(rows.shape[0], dtype=jnp.int32)[None],
        expert=expert[None],
        slot=jnp.zeros_like(expert)[None],
        weight=jnp.ones((1, rows.shape[0]), jnp.float32),
        routed=real[None],
        kept=real[None],
        num_tokens=rows.shape[0],
        num_experts=experts.up.shape[0],
        capacity=None,
    )
    return dispatch_grouped(local, rows[None], experts, block=block)[0].astype(rows.dtype)
