"""The functions that a switch wakes: some branches, each over its run of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax


@runtime_checkable
class Branch(Protocol):
    """What every branch of a switch does to its rows, each row by itself.

    Its results may hold anything for rows that are not its own: they are masked.
    """

    def forward(self, params: Any, rows: Any) -> tuple[Any, Any]:
        """Rows (N, …) to (N, …), and what `backward` wants of it: a tree of arrays, or None."""
        ...

    def backward(self, params: Any, rows: Any, saved: Any, grad: Any) -> tuple[Any, Any]:
        """Gradients by rows (None if they are integers) and by params; `saved` may be None."""
        ...


@dataclasses.dataclass(frozen=True)
class Rowwise:
    """A branch out of one function; its backward pass computes the forward again.

    Attributes:
        fn: (params, rows (N, …)) -> (N, …).
    """

    fn: Callable[[Any, Any], Any]

    def forward(self, params: Any, rows: Any) -> tuple[Any, Any]:
        return self.fn(params, rows), None

    def backward(self, params: Any, rows: Any, saved: Any, grad: Any) -> tuple[Any, Any]:
        if not jnp.issubdtype(rows.dtype, jnp.inexact):
            _, pull = jax.vjp(lambda p: self.fn(p, rows), params)
            return None, pull(grad)[0]
        _, pull = jax.vjp(self.fn, params, rows)
        d_params, d_rows = pull(grad)
        return d_rows, d_params


def forward_over(branch: Branch, bucket: int, count: int) -> Callable[..., Any]:
    """(rows (R, …), spans (N, 2), N params) -> rows, with these branches' overwritten.

    The buffer is donated, and nothing is copied but the branches' own rows. They are all read
    before the first is written, so that the branches of a node may run side by side.
    """

    def over(rows: Any, spans: Any, params: Sequence[Any]) -> Any:
        places = [_place(spans[n], rows.shape[0], bucket) for n in range(count)]
        taken = [lax.dynamic_slice_in_dim(rows, start, bucket) for start, _ in places]
        made = [branch.forward(p, x)[0] for p, x in zip(params, taken, strict=True)]
        for (start, mine), new in zip(places, made, strict=True):
            rows = _put(rows, new, start, mine)
        return rows

    return over


def forward_beside(branch: Branch, bucket: int, count: int) -> Callable[..., Any]:
    """(buffer (R, …), rows (R, …), spans (N, 2), N params) -> buffer, N saved trees."""

    def beside(buffer: Any, rows: Any, spans: Any, params: Sequence[Any]) -> Any:
        places = [_place(spans[n], rows.shape[0], bucket) for n in range(count)]
        taken = [lax.dynamic_slice_in_dim(rows, start, bucket) for start, _ in places]
        made = [branch.forward(p, x) for p, x in zip(params, taken, strict=True)]
        for (start, mine), (new, _) in zip(places, made, strict=True):
            buffer = _put(buffer, new, start, mine)
        return buffer, [saved for _, saved in made]

    return beside


def backward_over(branch: Branch, bucket: int, count: int) -> Callable[..., Any]:
    """(grad (R, …), rows, N saved trees or None, spans, N params) -> grad, N gradients.

    The gradient by the outputs comes back with these branches' rows turned into gradients by the
    rows, where they have the same shape.
    """

    def over(grad: Any, rows: Any, kept: Any, spans: Any, params: Sequence[Any]) -> Any:
        return _backward(branch, bucket, count, grad, grad, rows, kept, spans, params)

    return over


def backward_beside(branch: Branch, bucket: int, count: int) -> Callable[..., Any]:
    """As `backward_over`, with the gradients by rows in a buffer of their own, given first."""

    def beside(
        buffer: Any, grad: Any, rows: Any, kept: Any, spans: Any, params: Sequence[Any]
    ) -> Any:
        return _backward(branch, bucket, count, buffer, grad, rows, kept, spans, params)

    return beside


def _backward(
    branch: Branch,
    bucket: int,
    count: int,
    buffer: Any,
    grad: Any,
    rows: Any,
    kept: Any,
    spans: Any,
    params: Sequence[Any],
) -> tuple[Any, list[Any]]:
    places = [_place(spans[n], rows.shape[0], bucket) for n in range(count)]
    made = []
    for n, (start, mine) in enumerate(places):
        x = lax.dynamic_slice_in_dim(rows, start, bucket)
        dy = lax.dynamic_slice_in_dim(grad, start, bucket)
        dy = jnp.where(_along(mine, dy), dy, 0)
        saved = None if kept is None else kept[n]
        made.append(branch.backward(params[n], x, saved, dy))
    for (start, mine), (d_rows, _) in zip(places, made, strict=True):
        if d_rows is not None:
            buffer = _put(buffer, d_rows, start, mine)
    return buffer, [d_params for _, d_params in made]


def merge_branches(parts: Sequence[Any], counts: Any) -> Any:
    """Each row from the part of its branch's slice: branch e is on slice e mod P.

    Args:
        parts: P arrays (R, …).
        counts: (E,) int32, rows of each branch, in order.
    """
    if len(parts) == 1:
        return parts[0]
    row = jnp.arange(parts[0].shape[0], dtype=jnp.int32)
    branch = jnp.searchsorted(jnp.cumsum(counts), row, side="right", method="compare_all")
    home = branch % len(parts)
    merged = parts[0]
    for number, part in enumerate(parts[1:], 1):
        merged = jnp.where(_along(home == number, part), part, merged)
    return merged


def _place(span: Any, rows: int, bucket: int) -> tuple[Any, Any]:
    """Where a bucket begins that holds the run, and which of its rows are the run's."""
    # Near the end it begins before the run, so as not to reach past the last row.
    start = jnp.minimum(span[0], rows - bucket)
    row = start + jnp.arange(bucket, dtype=jnp.int32)
    return start, (row >= span[0]) & (row < span[1])


def _put(buffer: Any, values: Any, start: Any, mine: Any) -> Any:
    old = lax.dynamic_slice_in_dim(buffer, start, mine.shape[0])
    new = jnp.where(_along(mine, old), values.astype(buffer.dtype), old)
    return lax.dynamic_update_slice_in_dim(buffer, new, start, 0)


def _along(mask: Any, like: Any) -> Any:
    return mask.reshape(mask.shape[0], *(1,) * (like.ndim - 1))
