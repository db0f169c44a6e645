"""Which outputs of a function gradients may flow to, by inputs: read off its equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from .graph import Shape


def dependence(fn: Callable[..., Sequence[Any]], inputs: Sequence[Shape]) -> list[frozenset[int]]:
    """For each output the inputs that it depends on by floating values all the way.

    A pass over the outermost equations: an equation's outputs depend on all of its inputs.

    Args:
        fn: of leaves, to leaves.
        inputs: their shapes.
    """
    jaxpr = jax.make_jaxpr(lambda *given: list(fn(*given)))(*inputs).jaxpr
    sources: dict[Any, frozenset[int]] = {
        var: frozenset([n]) for n, var in enumerate(jaxpr.invars) if _floats(var)
    }
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "stop_gradient":
            continue
        found = frozenset[int]().union(
            *(sources.get(a, frozenset()) for a in eqn.invars if not isinstance(a, core.Literal))
        )
        if found:
            sources |= {var: found for var in eqn.outvars if _floats(var)}
    return [
        frozenset() if isinstance(a, core.Literal) else sources.get(a, frozenset())
        for a in jaxpr.outvars
    ]


def _floats(var: Any) -> bool:
    return jnp.issubdtype(var.aval.dtype, jnp.inexact)
