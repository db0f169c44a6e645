"""Fetched arrays that hold their own bytes, on CPU devices too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .backend import put_on

# What XLA wants of a buffer that it takes as it is.
_ALIGNMENT = 64


def fetch(trees: Sequence[Any], places: Sequence[jax.sharding.Sharding]) -> list[Any]:
    """Each tree as `jax.Array`s on its place, by one transfer for all, which may still go on.

    A CPU device takes an aligned NumPy array as it is, `may_alias=False` or not: that of a mapped
    file would be the mapping, and not a copy that can be counted and freed. So there the bytes are
    copied first, into one buffer for each item, which lives as long as the arrays.
    """
    if not trees:
        return []
    leaves, homes, ends = [], [], []
    for tree, place in zip(trees, places, strict=True):
        mine = jax.tree.leaves(tree)
        if all(isinstance(d, jax.Device) and d.platform == "cpu" for d in place.device_set):
            mine = _copied(mine)
        leaves += mine
        homes += [place] * len(mine)
        ends.append(len(leaves))
    arrays = put_on(leaves, homes)
    starts = [0, *ends[:-1]]
    return [
        jax.tree.unflatten(jax.tree.structure(tree), arrays[start:end])
        for tree, start, end in zip(trees, starts, ends, strict=True)
    ]


def check_dtypes(key: Any, shapes: Any) -> Any:
    """The shapes, if JAX holds such arrays as they are.

    Raises:
        ValueError: it would narrow them.
    """
    for leaf in jax.tree.leaves(shapes):
        narrow = jax.dtypes.canonicalize_dtype(leaf.dtype)
        if narrow != leaf.dtype:
            raise ValueError(
                f"item {key!r} holds {leaf.dtype}, which JAX makes {narrow}: set jax_enable_x64, "
                "or store another type"
            )
    return shapes


def held_bytes(shapes: Any, place: jax.sharding.Sharding) -> int:
    """What an item takes on all devices of its place together."""
    copies = len(place.device_set)
    return copies * sum(
        math.prod(place.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
    )


def _copied(leaves: Sequence[Any]) -> list[Any]:
    """NumPy arrays in one new buffer; what is on a device already stays."""
    sizes = [leaf.nbytes if isinstance(leaf, np.ndarray) else 0 for leaf in leaves]
    whole = sum(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)
    if not whole:
        return list(leaves)
    buffer = np.empty(whole + _ALIGNMENT, np.uint8)
    at = -buffer.ctypes.data % _ALIGNMENT
    copies = []
    for leaf, size in zip(leaves, sizes, strict=True):
        if not size:
            copies.append(leaf)
            continue
        copy = buffer[at : at + size].view(leaf.dtype).reshape(leaf.shape)
        np.copyto(copy, leaf)
        copies.append(copy)
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
    return copies
