"""Beginning with trained weights: what is taken, what is resized, what stays fresh."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from ..models import WeightsError, resize_positions
from .config import Experiment
from .sources import find_source

Params = Any

# Layers that belong to the classes of a task, and begin anew where these are others.
_HEADS = ("head", "pre_logits")


def begin_with(config: Experiment, params: Params) -> tuple[Params, list[str]]:
    """Fresh parameters with those of `config.init` in their places.

    Args:
        config: of the experiment; each of its `init` is a folder, or `PLACE=FOLDER`.
        params: as drawn for the experiment's model.

    Returns:
        The parameters, and a line for people on each folder.

    Raises:
        WeightsError, RunError, CheckpointError: a folder cannot be read, or none of its parameters
            fits.
    """
    lines = []
    for entry in config.init:
        place, _, folder = entry.rpartition("=")
        loaded = find_source(Path(folder)).load().params
        params, line = put_in(params, loaded, place.strip("/"), folder)
        lines.append(line)
    return params, lines


def put_in(params: Params, loaded: Params, place: str, source: str) -> tuple[Params, str]:
    """Puts loaded parameters into a tree, by name.

    Tables of positions are resized to the tree's grid (`resize_positions`); a head of another
    number of classes is left out, and so is what the tree has not.

    Args:
        params: the tree, whose arrays may lie on devices.
        loaded: of another model.
        place: where they go, a path joined by `/`, empty for the root. Of a model that has that
            place itself (the image tower of another pair) the part there is taken.
        source: where they come from, for messages.

    Returns:
        The new tree, and a line for people.

    Raises:
        WeightsError: no parameter fits; one has another shape.
    """
    flat: dict[str, Any] = flatten_dict(params, sep="/")  # pyright: ignore
    given: dict[str, Any] = flatten_dict(loaded, sep="/")  # pyright: ignore
    prefix = f"{place}/" if place else ""
    if place and any(name.startswith(prefix) for name in given):
        given = {n.removeprefix(prefix): v for n, v in given.items() if n.startswith(prefix)}
    wanted = [name for name in flat if name.startswith(prefix)]
    if not wanted:
        raise WeightsError(f"init {source}: the model has no place '{place}'")
    taken, resized, fresh = [], [], []
    for name in wanted:
        short = name.removeprefix(prefix)
        value = given.get(short)
        shape = flat[name].shape
        if value is not None and value.shape != shape:
            if short.split("/")[0] in _HEADS:
                value = None
            elif "pos_embedding" in short.split("/")[-1]:
                value = _fitted(value, shape, f"init {source}: {short}")
                resized.append(short)
            else:
                raise WeightsError(
                    f"init {source}: {short} is {value.shape}, and the model wants {shape}; "
                    "set the model's sizes as they were"
                )
        if value is None:
            fresh.append(short)
            continue
        value = np.asarray(value, flat[name].dtype)
        if isinstance(flat[name], jax.Array):
            value = jax.device_put(value, flat[name].sharding)
        flat[name] = value
        taken.append(short)
    if not taken:
        few = ", ".join(sorted(given)[:3])
        raise WeightsError(f"init {source}: nothing fits; it holds {few}, …")
    unused = len(given.keys() - set(taken))
    line = f"began with {len(taken)} arrays of {source}"
    line += f", {len(resized)} of them resized" if resized else ""
    line += f"; new: {_few(sorted(fresh))}" if fresh else ""
    line += f"; {unused} left out" if unused else ""
    return unflatten_dict(flat, sep="/"), line


def _fitted(table: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """Positions of square grids, with or without a class token's row in both."""
    old, new = table.shape[-2], shape[-2]
    for first in (False, True):
        sides = [math.isqrt(n - first) for n in (old, new)]
        if [side**2 + first for side in sides] == [old, new] and table.shape[-1] == shape[-1]:
            grids = [(side, side) for side in sides]
            return resize_positions(table, grids[0], grids[1], class_row=first)
    raise WeightsError(f"{what} is {table.shape}, which cannot be resized to {shape}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
