"""The functions of backward nodes: a forward computed again, and cotangents pulled back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .branches import Sparse
from .computations import FlatComputation
from .conditional import Conditional, Wake
from .switch_nodes import merge_branches


def moved(flat: FlatComputation, moving: list[int], inputs: Sequence[Any]) -> Callable[..., Any]:
    """The function of those inputs alone."""

    def run(*some: Any) -> list[Any]:
        whole = list(inputs)
        for n, x in zip(moving, some, strict=True):
            whole[n] = x
        return flat.flat(*whole)[0]

    return run


def forward_and_pull(flat: FlatComputation, moving: list[int], loss: int) -> Callable[..., Any]:
    """inputs -> (outputs, cotangents of the moving inputs)."""

    def forward_and_backward(inputs: list[Any]) -> tuple[list[Any], list[Any]]:
        run = moved(flat, moving, inputs)

        def first(*some: Any) -> Any:
            outs = run(*some)
            return outs[loss], outs

        value, pull, outs = jax.vjp(first, *[inputs[n] for n in moving], has_aux=True)
        return outs, list(pull(jnp.ones_like(value)))

    return forward_and_backward


def pull_back(flat: FlatComputation, moving: list[int], outs: list[int]) -> Callable[..., Any]:
    """(inputs, pieces of each output's cotangent) -> cotangents of the moving inputs."""

    def backward(inputs: list[Any], pieces: list[Any]) -> list[Any]:
        run = moved(flat, moving, inputs)

        def wanted(*some: Any) -> list[Any]:
            made = run(*some)
            return [made[n] for n in outs]

        _, pull = jax.vjp(wanted, *[inputs[n] for n in moving])
        return list(pull([total(found) for found in pieces]))

    return backward


def total(pieces: Sequence[Any]) -> Any:
    """One cotangent out of pieces; those of a switch over several slices are merged first."""
    whole = [
        merge_branches(piece["parts"], piece["counts"]) if isinstance(piece, dict) else piece
        for piece in pieces
    ]
    return functools.reduce(jnp.add, whole)


@functools.cache
def add_sparse(count: int) -> Conditional:
    """The node that adds sparse gradients of branches that several switches share."""

    def expand(wake: Wake, read: list[Any], inputs: list[Any]) -> list[Any]:
        whole = Sparse()
        for one in inputs:
            for branch, tree in one.items():
                whole[branch] = tree if branch not in whole else _add(whole[branch], tree)
        return [whole]

    return Conditional(f"sum of {count} gradients" if count else "no gradient", 0, expand)


@jax.jit
def _add(first: Any, second: Any) -> Any:
    return jax.tree.map(jnp.add, first, second)
