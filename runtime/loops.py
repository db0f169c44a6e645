"""Loops in programs: their length is bounded, so that what they need is known ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .computations import Computation
from .conditional import Conditional, Wake
from .errors import ProgramError
from .graph import Shape
from .tracing import builder


def repeat(times: int, body: Callable[[Any], Any], carry: Any) -> Any:
    """`body` so many times over: each call is nodes of its own in the program.

    Args:
        times: known when the program is traced; 0 or more.
        body: calls computations; carry to carry, of the same structure.
        carry: a tree.

    Raises:
        ProgramError: a negative number, or a body that changes the structure.
    """
    if times < 0:
        raise ProgramError(f"a loop of {times} turns: it takes 0 or more")
    tree = jax.tree.structure(carry)
    for _ in range(times):
        carry = body(carry)
        if jax.tree.structure(carry) != tree:
            raise ProgramError(
                f"the body of a loop returns {jax.tree.structure(carry)}, and was given {tree}"
            )
    return carry


def while_loop(
    condition: Computation, body: Computation, carry: Any, *, bound: int, name: str = "while"
) -> Any:
    """`body` as long as `condition` holds, and at most `bound` times.

    A conditional node: the condition is computed on the slice and read before every turn, so turns
    are sent one by one. A loop inside one computation (`jax.lax.while_loop`) is cheaper where its
    body is one computation on one slice anyway and nobody must see the turns.

    Args:
        condition: carry to a scalar bool.
        body: carry to a carry of the same structure, shapes and dtypes, on the same slice.
        carry: a tree.
        bound: most turns.
        name: in traces.

    Raises:
        ProgramError: outside a program, a bound below 1, or shapes that change.
    """
    made = builder()
    if made is None:
        raise ProgramError(f"loop {name!r} exists only in a program: decorate its caller")
    if bound < 1:
        raise ProgramError(f"loop {name!r} has a bound of {bound}: it takes 1 or more")
    if condition.slice is not body.slice:
        raise ProgramError(f"loop {name!r}: its condition and body are on different slices")
    if body.donate or condition.donate:
        raise ProgramError(f"loop {name!r}: its computations donate, and a loop reads them again")
    if any(x.in_specs is not None or x.out_specs is not None for x in (condition, body)):
        raise ProgramError(
            f"loop {name!r}: its computations spread what is carried, which every "
            "device of their slice has whole: leave in_specs and out_specs out"
        )
    leaves, tree = jax.tree.flatten(carry)
    places = [made.place(leaf, name) for leaf in leaves]
    shapes = tuple(Shape(place.shape, place.dtype) for place in places)
    carried = jax.tree.unflatten(tree, shapes)
    flat_body, _ = body.flat((carried,))
    flat_condition, _ = condition.flat((carried,))
    turned = flat_body.signature(shapes, name)
    said = flat_condition.signature(shapes, name).outputs
    if turned.out_tree != tree or [(s.shape, s.dtype) for s in turned.outputs] != [
        (s.shape, s.dtype) for s in shapes
    ]:
        raise ProgramError(f"the body of loop {name!r} changes the shapes of what it carries")
    if len(said) != 1 or said[0].shape or said[0].dtype != bool:
        raise ProgramError(f"the condition of loop {name!r} makes {said}, not a scalar bool")

    copy = Computation(lambda kept: jax.tree.map(jnp.copy, kept), body.slice, name=name)
    same, _ = copy.flat((carried,))

    def expand(wake: Wake, read: list[Any], inputs: list[Any]) -> list[Any]:
        if not read[0]:
            # What it was given may be donated to another later.
            return wake.call(same.executable(shapes), inputs, body.slice, name)
        arrays = wake.call(flat_body.executable(shapes), inputs, body.slice, body.name)
        for _ in range(bound - 1):
            (going,) = wake.call(
                flat_condition.executable(shapes), arrays, condition.slice, condition.name
            )
            if not wake.read(going):
                break
            arrays = wake.call(flat_body.executable(shapes), arrays, body.slice, body.name)
        return arrays

    def compile_ahead() -> None:
        flat_condition.executable(shapes)
        flat_body.executable(shapes)
        same.executable(shapes)

    # The first look is a node like others: it is sent at once, and nobody waits for it.
    first, _ = made.call_flat(flat_condition, places)
    what = Conditional(name, 1, expand, None, compile_ahead)
    outs = made.conditional(what, body.slice, [*first, *places], shapes)
    return jax.tree.unflatten(tree, outs)
