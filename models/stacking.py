"""Trees whose blocks are stacked, as `scan` reads them, and back (lossless both ways)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .runs import Run, find_runs

_BLOCK = re.compile(r"(.*block)_(\d+)")
_RUN = re.compile(r"(.*block)s_(\d+)_(\d+)")


def stack_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with equal blocks stacked along a new first axis, bit for bit.

    In every dictionary of the tree the entries `…block_0`, `…block_1`, … are cut into runs
    (`find_runs`); a run of 12 pairs becomes `…blocks_0_23`, with the trees of the first pair's
    blocks under `0` and `1`, whose arrays have a first axis of 12. A block that is like none of
    its neighbours stays as it is, as does everything else. Models with `scan` take either tree;
    from this one they need not stack at each step.

    Args:
        params: nested dictionaries of arrays, NumPy's or JAX's; also of shapes, under
            `jax.eval_shape`. For an optimiser's state map this over its dictionaries.

    Raises:
        ValueError: block numbers are not 0, 1, 2, ….
    """
    blocks: dict[str, dict[int, Any]] = {}
    result: dict[str, Any] = {}
    for name, value in params.items():
        found = _BLOCK.fullmatch(name)
        if found and isinstance(value, Mapping):
            blocks.setdefault(found[1], {})[int(found[2])] = value
        else:
            result[name] = stack_blocks(value) if isinstance(value, Mapping) else value
    for prefix, numbered in blocks.items():
        if sorted(numbered) != list(range(len(numbered))):
            raise ValueError(
                f"blocks {prefix}_N are numbered {sorted(numbered)}: expected 0 to "
                f"{len(numbered) - 1}, each once"
            )
        trees = [numbered[index] for index in range(len(numbered))]
        for run in find_runs([_kind(tree) for tree in trees]):
            if run.count == 1:
                for index in range(run.first, run.first + run.period):
                    result[f"{prefix}_{index}"] = trees[index]
            else:
                result[run.name(prefix)] = stack_run(run, trees.__getitem__)
    return result


def unstack_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `stack_blocks`: the canonical tree, a dictionary for each block.

    Raises:
        ValueError: an array's first axis is not as long as the run's name says.
    """
    result: dict[str, Any] = {}
    for name, value in params.items():
        found = _RUN.fullmatch(name)
        if found and isinstance(value, Mapping):
            first, last = int(found[2]), int(found[3])
            period = len(value)
            run = Run(first, period, (last + 1 - first) // max(period, 1))
            _check_run(name, run, last, value)
            for index, tree in unstack_run(run, [value[str(n)] for n in range(period)]).items():
                result[f"{found[1]}_{index}"] = tree
        else:
            result[name] = unstack_blocks(value) if isinstance(value, Mapping) else value
    return result


def stack_run(run: Run, tree: Callable[[int], Any]) -> dict[str, Any]:
    """By place in the period, as text, the trees of the run's blocks, stacked."""
    return {
        str(place): jax.tree.map(
            _stack, *(tree(run.block(turn, place)) for turn in range(run.count))
        )
        for place in range(run.period)
    }


def unstack_run(run: Run, places: Sequence[Any]) -> dict[int, Any]:
    """By block, its tree, out of those that are stacked by place in the period."""
    return {
        run.block(turn, place): jax.tree.map(lambda leaf, turn=turn: _pick(leaf, turn), tree)
        for turn in range(run.count)
        for place, tree in enumerate(places)
    }


def _kind(tree: Any) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def _stack(*leaves: Any) -> Any:
    return (np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp).stack(leaves)


def _pick(leaf: Any, turn: int) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf[turn]
    return lax.index_in_dim(leaf, turn, keepdims=False)


def _check_run(name: str, run: Run, last: int, value: Mapping[str, Any]) -> None:
    places = [str(place) for place in range(run.period)]
    if sorted(value) != sorted(places) or run.block(run.count, 0) != last + 1:
        raise ValueError(
            f"{name} holds {sorted(value)}: expected the blocks of one period, numbered from 0, "
            f"that make up blocks {run.first} to {last}"
        )
    for leaf in jax.tree.leaves(value):
        if not leaf.shape or leaf.shape[0] != run.count:
            raise ValueError(
                f"{name} holds an array of shape {leaf.shape}: expected a first axis of {run.count}"
            )
