"""The programs of experts: some of them over their runs of rows, in place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from ...routing import ACTIVATIONS, ActivationName


@functools.cache
def forward_node(
    activation: ActivationName, bucket: int, experts: int, *, in_place: bool
) -> Callable[..., Any]:
    """Jitted `(buffer, rows, spans, weights) -> buffer, sums`; in place `(rows, spans, weights)
    -> rows`.

    The buffer (R, D), or in place the rows (R, D), are donated and come back with these experts'
    rows overwritten. Spans (N, 2) int32 say where the run of each begins and ends; weights are
    N tuples. Sums (N, bucket, H) are before the GELU, for the backward pass.
    """

    def one(buffer, rows, span, weights):
        up, up_bias, down, down_bias = (w.astype(rows.dtype) for w in weights)
        start, mine = _place(span, rows.shape[0], bucket)
        sums = lax.dynamic_slice_in_dim(rows, start, bucket) @ up + up_bias
        out = ACTIVATIONS[activation](sums) @ down + down_bias
        return _put(buffer, out, start, mine), sums

    def apart(buffer, rows, spans, weights):
        kept = []
        for i in range(experts):
            buffer, sums = one(buffer, rows, spans[i], weights[i])
            kept.append(sums)
        return buffer, kept

    def over(rows, spans, weights):
        # All products first: they wait for nothing, and the updates are then in place.
        for i in range(experts):
            rows = one(rows, rows, spans[i], weights[i])[0]
        return rows

    return jax.jit(over if in_place else apart, donate_argnums=0)


@functools.cache
def backward_node(activation: ActivationName, bucket: int, experts: int) -> Callable[..., Any]:
    """Jitted `(grad, rows, sums, spans, weights) -> grad, weights' gradients`.

    The gradient (R, D) by the outputs is donated and comes back with these experts' rows turned
    into gradients by the inputs. Sums are those of the forward node, or None: worked out again.
    """

    def one(grad, rows, sums, span, weights):
        up, up_bias, down, _ = (w.astype(rows.dtype) for w in weights)
        start, mine = _place(span, rows.shape[0], bucket)
        x = lax.dynamic_slice_in_dim(rows, start, bucket)
        dy = jnp.where(mine, lax.dynamic_slice_in_dim(grad, start, bucket), 0)
        if sums is None:
            sums = x @ up + up_bias
        h, pull = jax.vjp(ACTIVATIONS[activation], sums)
        (d_sums,) = pull(dy @ down.T)
        grads = (_dot(x, d_sums), jnp.sum(d_sums, 0), _dot(h, dy), jnp.sum(dy, 0))
        grads = tuple(g.astype(w.dtype) for g, w in zip(grads, weights, strict=True))
        return _put(grad, d_sums @ up.T, start, mine), grads

    def all_of(grad, rows, sums, spans, weights):
        found = []
        for i in range(experts):
            part = None if sums is None else sums[i]
            grad, grads = one(grad, rows, part, spans[i], weights[i])
            found.append(grads)
        return grad, found

    return jax.jit(all_of, donate_argnums=0)


def merge(buffers: Sequence[Float[Array, "R D"]], sizes: Int[Array, " E"]) -> Float[Array, "R D"]:
    """Each row from the buffer of its expert's device: expert e lives on device e mod P."""
    if len(buffers) == 1:
        return buffers[0]
    row = jnp.arange(buffers[0].shape[0], dtype=jnp.int32)
    expert = jnp.searchsorted(jnp.cumsum(sizes), row, side="right", method="compare_all")
    home = (expert % len(buffers))[:, None]
    merged = buffers[0]
    for number, buffer in enumerate(buffers[1:], 1):
        merged = jnp.where(home == number, buffer, merged)
    return merged


def _place(span, rows: int, bucket: int):
    """Where a bucket begins that holds the run, and which of its rows are the run's."""
    # Near the end it begins before the run, so as not to reach past the last row.
    start = jnp.minimum(span[0], rows - bucket)
    row = start + jnp.arange(bucket, dtype=jnp.int32)
    return start, ((row >= span[0]) & (row < span[1]))[:, None]


def _put(buffer, values, start, mine):
    old = lax.dynamic_slice_in_dim(buffer, start, mine.shape[0])
    return lax.dynamic_update_slice_in_dim(buffer, jnp.where(mine, values, old), start, 0)


def _dot(left, right):
    """left^T right."""
    return lax.dot_general(
        left, right, (((0,), (0,)), ((), ())), preferred_element_type=_wide(left.dtype)
    )


def _wide(dtype):
    return jnp.promote_types(dtype, jnp.float32)
