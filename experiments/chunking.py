"""A batch through a model in rematerialised chunks: less memory, the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .config import Experiment

Outputs = Any
Sums = Any


def in_chunks(
    run: Callable[[Any, Key[Array, " g"] | None, int], tuple[Outputs, Sums]],
    rows: Any,
    keys: Key[Array, " G"] | None,
    groups: int,
    chunks: int,
) -> tuple[Outputs, Sums]:
    """Runs a model over a batch, chunk by chunk; the backward pass runs each chunk again.

    The result and its gradient do not depend on `chunks` (to rounding); the activations
    alive at once do. Chunk c takes the groups c, c + chunks, …, so that a batch
    sharded over devices has a part of every chunk on every device.

    Args:
        run: (rows, one key per group or None, groups) -> outputs, each with a row for each of the
            inputs', and sums, of which a whole's are the sums of its parts'.
        rows: a pytree of arrays with B rows.
        keys: of the routers' noise, one per group; None for evaluation's routing.
        groups: G.
        chunks: a divisor of G.

    Raises:
        ValueError: the groups do not divide among the chunks.
    """
    if groups % chunks:
        raise ValueError(
            f"{groups} routing groups do not divide into {chunks} chunks: lower model.moe."
            "group_size or loss.chunks"
        )
    if chunks == 1:
        return run(rows, keys, groups)
    each = groups // chunks

    def apart(x: Array) -> Array:
        size = x.shape[0] // groups
        grouped = x.reshape(each, chunks, size, *x.shape[1:])
        return grouped.swapaxes(0, 1).reshape(chunks, each * size, *x.shape[1:])

    def together(x: Array) -> Array:
        size = x.shape[1] // each
        grouped = x.reshape(chunks, each, size, *x.shape[2:])
        return grouped.swapaxes(0, 1).reshape(chunks * each * size, *x.shape[2:])

    if keys is not None:
        keys = keys.reshape(each, chunks).swapaxes(0, 1)
    parts = (jax.tree.map(apart, rows), keys)
    one = jax.checkpoint(lambda part: run(part[0], part[1], each))
    outputs, sums = jax.lax.map(one, parts)
    merged = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), sums)
    return jax.tree.map(together, outputs), merged


def forward_passes_again(config: Experiment) -> int:
    """How often a step goes forward once more: for its chunks, and for blocks not remembered."""
    return (config.loss.chunks > 1) + (config.model.remat == "blocks")
