"""The functions of backward nodes: a forward computed again, and cotangents pulled back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .branches import Awaited, Sparse
from .computations import Computation, FlatComputation
from .conditional import Conditional, Wake
from .resources import Slice
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


def add_sparse(count: int) -> Conditional:
    """The node that adds sparse gradients of branches that several switches share."""
    name = f"sum of {count} gradients" if count else "no gradient"
    adders: dict[Any, Computation] = {}  # by slice

    def adder(part: Slice) -> Computation:
        if part not in adders:
            adders[part] = Computation(lambda a, b: jax.tree.map(jnp.add, a, b), part, name=name)
        return adders[part]

    def add(wake: Wake, first: list[Any], second: list[Any], one: Any, part: Slice) -> list[Any]:
        if one is not part:
            second = wake.move(second, [part] * len(second))
        _, executable = adder(part).lower(first, second)
        return wake.call(executable, [*first, *second], part, name)

    def expand(wake: Wake, read: list[Any], inputs: list[Any]) -> list[Any]:
        if inputs and isinstance(inputs[0], Awaited):
            found = inputs[0].plus(inputs[1:], wake, adder)
            if found is not None:
                return [found]
        whole = Sparse()
        for given in [wake.known(x) if isinstance(x, Awaited) else x for x in inputs]:
            for branch, tree in given.items():
                if branch not in whole:
                    whole[branch], whole.slices[branch] = tree, given.slices[branch]
                    continue
                first, structure = jax.tree.flatten(whole[branch])
                second, part = jax.tree.leaves(tree), whole.slices[branch]
                made = add(wake, first, second, given.slices[branch], part)
                whole[branch] = jax.tree.unflatten(structure, made)
        return [whole]

    return Conditional(name, 0, expand)
