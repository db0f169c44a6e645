"""What the gradient of one part of a batch needs of the others' forward passes.

Where a loss is a mean over targets, that is how many there are, which the rows alone tell. It is
seen in the functions themselves: which inputs of one part's cotangents are used, and which results
of a forward pass do not depend on parameters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from .part_step import PartStep


def needed(step: PartStep) -> list[int] | None:
    """The leaves of what is found in other parts that one part's cotangents are made of.

    Returns:
        their numbers, if the rows give all of them; None if parameters take part.
    """
    given, shapes = _of_rows_alone(step), step.exchanged.shapes
    moving = [
        n
        for n, shape in enumerate(shapes)
        if n not in given and jnp.issubdtype(shape.dtype, jnp.inexact)
    ]
    wanted = {leaf for part in range(step.parts) for leaf in _used(step, part, moving)}
    return sorted(wanted) if wanted <= given else None


def _used(step: PartStep, part: int, moving: list[int]) -> set[int]:
    """Leaves of other parts that a part's cotangents are made of.

    Args:
        moving: leaves that gradients flow through.
    """
    shapes = step.exchanged.shapes

    def cotangents(leaves: list[list[Any]]) -> list[Any]:
        def loss(own: list[Any]) -> Any:
            whole = [list(found) for found in leaves]
            for n, leaf in zip(moving, own, strict=True):
                whole[part][n] = leaf
            return step.loss(*map(step.exchanged.tree, whole))[0]

        return jax.grad(loss)([leaves[part][n] for n in moving])

    traced = jax.make_jaxpr(cotangents)([shapes] * step.parts)
    places = [(p, n) for p in range(step.parts) for n in range(len(shapes))]
    used = zip(places, _inputs(traced, range(len(moving))), strict=True)
    return {n for (p, n), is_used in used if is_used and p != part}


def _of_rows_alone(step: PartStep) -> set[int]:
    """Leaves of what is found that depend neither on parameters nor on the step."""
    number = jax.ShapeDtypeStruct((), jnp.int32)
    blank = jax.eval_shape(lambda: step.task.blank(step.rows))
    traced = jax.make_jaxpr(
        lambda params, number, rows, part: jax.tree.leaves(step.read(params, rows, number, part))
    )(step.params, number, blank, number)
    changing = len(jax.tree.leaves(step.params)) + 1
    count = len(traced.out_avals)
    return {n for n in range(count) if not any(_inputs(traced, [n])[:changing])}


def _inputs(traced: Any, outputs: Iterable[int]) -> list[bool]:
    """Which inputs of a traced function some of its outputs are made of."""
    wanted = set(outputs)
    _, used = partial_eval.dce_jaxpr(
        traced.jaxpr, [n in wanted for n in range(len(traced.out_avals))]
    )
    return used
