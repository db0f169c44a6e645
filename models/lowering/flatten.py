"""Traced functions with their calls of experts and gates in plain sight, outside of wrappers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from ...routing import ActivationName, marked_activation
from ..gating import gate_name


def activation_of(eqn: core.JaxprEqn) -> ActivationName | None:
    """Of the experts, where the equation is a call of them; else None."""
    return marked_activation(str(eqn.params.get("name", "")))


def gate_of(eqn: core.JaxprEqn) -> str | None:
    """Its name, where the equation is marked work for a modality; else None."""
    return gate_name(str(eqn.params.get("name", "")))


def _marked(eqn: core.JaxprEqn) -> bool:
    return activation_of(eqn) is not None or gate_of(eqn) is not None


def flat_trace(fn: Callable[..., Any], *args: Any) -> tuple[core.ClosedJaxpr, Any]:
    """`jax.make_jaxpr` of the function, and the shapes of its results as a tree.

    Calls, rematerialised ones too, and `scan`s around experts are opened (unrolled); what
    holds no experts stays as it is.

    Raises:
        ValueError: experts stand in a loop of unknown length, a conditional, or a function with a
            derivative of its own.
    """
    closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    if any(not _marked(eqn) and _holds(eqn) for eqn in closed.jaxpr.eqns):
        flat = jax.make_jaxpr(lambda *xs: _opened(closed.jaxpr, closed.consts, xs))
        closed = flat(*[jax.ShapeDtypeStruct(v.shape, v.dtype) for v in closed.in_avals])
    return closed, shapes


def evaluate(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """The results of a traced function."""
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, list(consts)))(*args)


def _holds(eqn: core.JaxprEqn) -> bool:
    if _marked(eqn):
        return True
    return any(_holds(inner) for body in core.jaxprs_in_params(eqn.params) for inner in body.eqns)


def _opened(jaxpr: core.Jaxpr, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """As `evaluate`, with what is wrapped around experts taken off."""
    env: dict[core.Var, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        if _marked(eqn) or not _holds(eqn):
            functions, params = eqn.primitive.get_bind_params(eqn.params)
            results = eqn.primitive.bind(*functions, *values, **params)
            results = results if eqn.primitive.multiple_results else [results]
        else:
            results = _open(eqn, values)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _open(eqn: core.JaxprEqn, values: list[Any]) -> list[Any]:
    name, params = eqn.primitive.name, eqn.params
    if name in ("jit", "pjit", "closed_call", "remat2", "checkpoint", "remat"):
        body: Any = params.get("jaxpr", params.get("call_jaxpr"))
        if isinstance(body, core.ClosedJaxpr):
            return _opened(body.jaxpr, body.consts, values)
        return _opened(body, (), values)
    if name == "scan":
        return _unrolled(params, values)
    raise ValueError(
        f"experts stand inside {name!r}, where no program can be cut: lower the function without it"
    )


def _unrolled(params: dict[str, Any], values: list[Any]) -> list[Any]:
    import jax.numpy as jnp

    fixed, carried = params["num_consts"], params["num_carry"]
    consts, carry = values[:fixed], values[fixed : fixed + carried]
    stacked, body = values[fixed + carried :], params["jaxpr"]
    turns: list[list[Any]] = [[] for _ in body.jaxpr.outvars[carried:]]
    order = range(params["length"])
    for i in reversed(order) if params["reverse"] else order:
        out = _opened(body.jaxpr, body.consts, [*consts, *carry, *(x[i] for x in stacked)])
        carry = out[:carried]
        for kept, value in zip(turns, out[carried:], strict=True):
            kept.append(value)
    if params["reverse"]:
        turns = [kept[::-1] for kept in turns]
    return [*carry, *(jnp.stack(kept) for kept in turns)]
