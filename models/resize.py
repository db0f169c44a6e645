"""Learned positions at another resolution, for images larger or smaller than those trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .vmoe_config import VmoeConfig

Grid = tuple[int, int]


def resize_positions(table: Any, old: Grid, new: Grid, *, class_row: bool) -> np.ndarray:
    """A table of positions for another grid of patches, linearly between the old ones.

    The corners of both grids coincide: what V-MoE's code does (order-1 spline zoom), and
    not what an image resize with pixel centres does. The row of the class token stays as it is.

    Args:
        table: (1, N, D) or (N, D), patches row by row, after the class token's row if there is one.
        old: rows and columns of patches in `table`.
        new: those wanted.
        class_row: whether row 0 belongs to a class token.

    Returns:
        The table's type and number of dimensions, with N of the new grid; computed in float64.

    Raises:
        ValueError: a grid with a side below 1, or a table that is not of the old grid.
    """
    table = np.asarray(table)
    for name, grid in (("old", old), ("new", new)):
        if min(grid) < 1:
            raise ValueError(f"the {name} grid is {grid}: it needs at least one row and one column")
    rows = old[0] * old[1] + class_row
    if table.ndim not in (2, 3) or table.shape[-2] != rows or table.shape[:-2] not in ((), (1,)):
        first = " and a class token" if class_row else ""
        raise ValueError(
            f"the table has the shape {table.shape}, and a grid of {old[0]} x {old[1]} "
            f"patches{first} makes (1, {rows}, D) or ({rows}, D)"
        )
    if old == new:
        return table
    flat = table.reshape(rows, -1).astype(np.float64)
    first, patches = flat[: int(class_row)], flat[int(class_row) :]
    down, across = (_between(*pair) for pair in zip(old, new, strict=True))
    patches = np.einsum("ri,cj,ijd->rcd", down, across, patches.reshape(*old, -1))
    flat = np.concatenate([first, patches.reshape(new[0] * new[1], -1)])
    return flat.reshape(*table.shape[:-2], *flat.shape).astype(table.dtype)


def _between(old: int, new: int) -> np.ndarray:
    """(new, old) weights of linear interpolation with the ends aligned."""
    place = np.linspace(0, old - 1, new)
    lower = np.minimum(place.astype(int), max(old - 2, 0))
    weights = np.zeros((new, old))
    weights[np.arange(new), np.minimum(lower + 1, old - 1)] = place - lower
    weights[np.arange(new), lower] += 1 - (place - lower)
    return weights


def at_resolution(
    config: VmoeConfig, params: dict[str, Any], image_size: int
) -> tuple[VmoeConfig, dict[str, Any]]:
    """A trained model for images of another size: learned positions resized, all else shared.

    Positions by sines and cosines, or none, need nothing. Groups hold whole images, so with
    larger images fewer of them; `group_size` stays.

    Args:
        config: of the model.
        params: its parameters, as `model.init(…)["params"]`; not changed.
        image_size: S, pixels.

    Raises:
        ValueError: S is not a positive multiple of the patch size, or the parameters are not
            the config's.
    """
    patch = config.patch_size
    if image_size < patch or image_size % patch:
        raise ValueError(
            f"image_size={image_size} does not divide into patches of {patch} pixels: take a "
            f"positive multiple of {patch}, such as {max(1, round(image_size / patch)) * patch}"
        )
    resized = dataclasses.replace(config, image_size=image_size)
    if config.positions != "learned" or image_size == config.image_size:
        return resized, params
    path = ("Encoder", "posembed_input", "pos_embedding")
    outer = params.get(path[0], {})
    inner = outer.get(path[1], {})
    if path[2] not in inner:
        raise ValueError(f"there is no {'/'.join(path)} among the parameters of learned positions")
    old, new = config.image_size // patch, image_size // patch
    table = resize_positions(
        inner[path[2]], (old, old), (new, new), class_row=config.classifier == "token"
    )
    inner = {**inner, path[2]: table}
    return resized, {**params, path[0]: {**outer, path[1]: inner}}
