"""Rows that change device: all-to-all with fixed buffers, or of ragged runs where there is one.

Each of n devices along an axis has rows sorted by the device they must go to. `Fixed` sends each
device a buffer that holds them all in the worst case; XLA's CPU back end knows nothing else.
`Ragged` sends only what there is. Called inside `jax.shard_map`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int


class Offsets(NamedTuple):
    """What `jax.lax.ragged_all_to_all` asks of one device; each (n,) int32, by peer."""

    input_offsets: Array
    send_sizes: Array
    output_offsets: Array
    recv_sizes: Array


def ragged_offsets(sizes: Int[Array, "n n"], me: Int[Array, ""] | int) -> Offsets:
    """Offsets that pack what arrives in order of the sender.

    Args:
        sizes: rows that device i (first axis) has for device j; i's rows for the devices lie in
            order of j. Its transpose gives the way back.
        me: the device that calls.
    """
    sizes = jnp.asarray(sizes, jnp.int32)
    before_in_sender = jnp.cumsum(sizes, axis=1) - sizes
    before_in_receiver = jnp.cumsum(sizes, axis=0) - sizes
    # Offsets into the *receivers'* buffers, as the operation wants them.
    return Offsets(before_in_sender[me], sizes[me], before_in_receiver[me], sizes[:, me])


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def ragged_exchange(
    axis: str, length: int, num_rows: int, rows: Float[Array, "R D"], sizes: Int[Array, "n n"]
) -> Float[Array, "L D"]:
    """Each device's rows to where they belong; zero past what arrives.

    The derivative is the way back. (JAX's own exchanges the offsets once more, and works out a
    gradient of the buffer that is written into.)

    Args:
        axis: name of the mesh axis.
        length: L, rows of the result; the most that may arrive.
        num_rows: R, of which the first `sum(sizes[me])` count.
        rows: sorted by the device they go to.
        sizes: as in `ragged_offsets`, the same on all devices.
    """
    out = jnp.zeros((length, rows.shape[1]), rows.dtype)
    offsets = ragged_offsets(sizes, lax.axis_index(axis))
    return lax.ragged_all_to_all(rows, out, *offsets, axis_name=axis)


def _ragged_fwd(axis, length, num_rows, rows, sizes):
    return ragged_exchange(axis, length, num_rows, rows, sizes), sizes


def _ragged_bwd(axis, length, num_rows, sizes, grad):
    return ragged_exchange(axis, num_rows, length, grad, sizes.T), None


ragged_exchange.defvjp(_ragged_fwd, _ragged_bwd)


def fixed_exchange(axis: str, rows: Float[Array, "L D"]) -> Float[Array, "L D"]:
    """The i-th of n equal parts to device i; what came from i is the i-th part. Its own inverse."""
    return lax.all_to_all(rows, axis, split_axis=0, concat_axis=0, tiled=True)


def who_arrived(
    counts: Int[Array, "n e"], length: int, stride: int | None
) -> tuple[Int[Array, " L"], Bool[Array, " L"]]:
    """The expert of each received row, and whether there is a row at all.

    Args:
        counts: rows from each device for each local expert; within what a device sends,
            rows are sorted by expert.
        length: L.
        stride: where each sender's part begins: every `stride` rows; None packs them.
    """
    devices, local = counts.shape
    position = jnp.arange(length, dtype=jnp.int32)
    if stride is None:
        ends = jnp.cumsum(counts.reshape(-1))
        run = jnp.searchsorted(ends, position, side="right")
        return (run % local).astype(jnp.int32), run < devices * local
    ends = jnp.cumsum(counts, axis=1)[position // stride]
    run = jnp.sum(ends <= (position % stride)[:, None], axis=1, dtype=jnp.int32)
    return jnp.minimum(run, local - 1), run < local


def exchange_bytes(
    *,
    groups: int,
    pairs: int,
    num_experts: int,
    capacity: int | None,
    width: int,
    itemsize: int,
    devices: int,
    shards: int | None = None,
) -> int:
    """Bytes of the buffer that each device hands to one exchange of `expert_parallel`.

    A forward pass makes two exchanges and a backward pass two more; of each, (n-1)/n leaves the
    device. With a capacity the buffer is (E, G_local*C, D). Dropless and fixed it is
    (n*G_local*P, D), since all pairs of a device may want the experts of one other: n times what
    is in use. `ragged_all_to_all` allocates as much where rows arrive, but G_local*P rows where
    they leave, and sends only those.

    Args:
        groups: G, over all devices.
        pairs: P of a group (T*K in the token layout).
        num_experts: E.
        capacity: C, or None.
        width: D.
        itemsize: bytes of a number: 2 in bfloat16.
        devices: n, along the axis of experts.
        shards: how many devices share the groups; None is n (no other axis).

    >>> exchange_bytes(groups=8, pairs=256, num_experts=8, capacity=40, width=64, itemsize=2,
    ...     devices=4)
    81920
    >>> exchange_bytes(groups=8, pairs=256, num_experts=8, capacity=None, width=64, itemsize=2,
    ...     devices=4)
    262144
    """
    local = -(-groups // (devices if shards is None else shards))
    if capacity is None:
        rows = devices * local * pairs
    else:
        rows = -(-num_experts // devices) * devices * local * capacity
    return rows * width * itemsize
