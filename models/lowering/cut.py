"""A traced function cut at its experts and gates into segments, each of which is one node.

With L calls of them there are L + 1 segments; the variables that are made in one and used in
another are the edges between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core

from ...routing import ActivationName
from .flatten import activation_of, evaluate, gate_of

Var = core.Var


@dataclasses.dataclass(frozen=True)
class ExpertCall:
    """Experts between two segments.

    Attributes:
        rows, sizes: variables of the segment before (rows may be an argument's).
        weights: positions of up, up_bias, down, down_bias among the function's flat arguments.
        out: the variable that later segments read.
        activation: of these experts.
    """

    rows: Var
    sizes: Var
    weights: tuple[int, int, int, int]
    out: Var
    activation: ActivationName

    @property
    def num_experts(self) -> int:
        """E."""
        return self.sizes.aval.shape[0]  # pyright: ignore[reportAttributeAccessIssue]


@dataclasses.dataclass(frozen=True)
class GateCall:
    """Work for a modality between two segments.

    Attributes:
        count, rows, operands: variables.
        out: the variable that later segments read.
        name: of the work.
        function: (rows, operands) -> what it makes where anything is there.
    """

    count: Var
    rows: Var
    operands: tuple[Var, ...]
    out: Var
    name: str
    function: Callable[[Any, Any], Any]


Call = ExpertCall | GateCall


@dataclasses.dataclass(frozen=True)
class Segment:
    """Equations that run as one program.

    Attributes:
        function: flat inputs -> list of outputs, not jitted.
        inputs, outputs: its variables, in order; each once.
    """

    function: Callable[..., list[Any]]
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]


@dataclasses.dataclass(frozen=True)
class Cut:
    """A function as segments with experts and gates between them.

    Attributes:
        segments: L + 1.
        calls: L; call i stands between segments i and i + 1.
        arguments: a variable for each flat argument.
        constants: variables that hold the same value in every call, with it.
        results: a variable for each flat result, or the value itself of one that is constant.
    """

    segments: tuple[Segment, ...]
    calls: tuple[Call, ...]
    arguments: tuple[Var, ...]
    constants: dict[Var, Any]
    results: tuple[Any, ...]

    @property
    def experts(self) -> tuple[ExpertCall, ...]:
        """The calls of experts, in order."""
        return tuple(call for call in self.calls if isinstance(call, ExpertCall))


class _Equations:
    """Callable equations."""

    def __init__(self, jaxpr: core.Jaxpr):
        self.jaxpr = jaxpr

    def __call__(self, *inputs: Any) -> list[Any]:
        return evaluate(self.jaxpr, (), inputs)


def cut(closed: core.ClosedJaxpr, names: Sequence[str], only: Collection[int] | None = None) -> Cut:
    """Cuts at every call of experts, and at marked work.

    Args:
        closed: from `flat_trace`.
        names: of the flat arguments, for messages.
        only: numbers of the sparse layers that are cut; the experts of others stay in their
            segment. None is all.

    Raises:
        ValueError: there are no experts, or no layer of a number; weights are worked out inside the
            function, or used for something else than being experts.
    """
    jaxpr = closed.jaxpr
    position = {var: i for i, var in enumerate(jaxpr.invars)}
    groups: list[list[core.JaxprEqn]] = [[]]
    calls: list[Call] = []
    layers = 0
    for eqn in jaxpr.eqns:
        if gate_of(eqn) is not None:
            calls.append(_gate(eqn))
            groups.append([])
            continue
        activation = activation_of(eqn)
        if activation is None:
            groups[-1].append(eqn)
            continue
        layers += 1
        if only is not None and layers - 1 not in only:
            groups[-1].append(eqn)
            continue
        rows, sizes, *weights = eqn.invars
        for part, atom in zip(("up", "up_bias", "down", "down_bias"), weights, strict=True):
            if atom not in position:
                raise ValueError(
                    f"the experts' {part} of sparse layer {layers - 1} is worked out inside the "
                    "function: it must be one of its arguments as it is (parameters that are not "
                    "stacked over blocks, with scan=False)"
                )
        places = tuple(position[atom] for atom in weights)
        calls.append(ExpertCall(rows, sizes, places, eqn.outvars[0], activation))  # pyright: ignore
        groups.append([])
    found = [call for call in calls if isinstance(call, ExpertCall)]
    outside = sorted(n for n in only or () if not 0 <= n < layers)
    if outside:
        raise ValueError(f"only={outside}: the function has {layers} sparse layers, from 0")
    if not found:
        raise ValueError(
            "the function holds no experts to cut at: give its sparse blocks dispatcher='pathways'"
        )
    experts = {jaxpr.invars[i]: i for call in found for i in call.weights}
    for eqn in (eqn for group in groups for eqn in group):
        for atom in eqn.invars:
            if _is_var(atom) and atom in experts:
                raise ValueError(
                    f"argument {names[experts[atom]]} holds experts and is also used by "
                    f"{eqn.primitive.name!r}: experts that sleep are nowhere, so nothing else can "
                    "read them"
                )
    segments = _segments(jaxpr, groups, calls)
    return Cut(
        segments=segments,
        calls=tuple(calls),
        arguments=tuple(jaxpr.invars),
        constants=dict(zip(jaxpr.constvars, closed.consts, strict=True)),
        results=tuple(a if _is_var(a) else jnp.asarray(a.val) for a in jaxpr.outvars),
    )


def _segments(
    jaxpr: core.Jaxpr, groups: list[list[core.JaxprEqn]], calls: list[Call]
) -> tuple[Segment, ...]:
    """From the last to the first, so that what nothing later needs is left out."""
    needed: dict[Any, None] = dict.fromkeys(v for v in jaxpr.outvars if _is_var(v))
    segments = []
    for group, call in zip(reversed(groups), (None, *reversed(calls)), strict=True):
        if call is not None:
            needed.pop(call.out, None)
            needed |= dict.fromkeys(_reads(call))
        made = {v for eqn in group for v in eqn.outvars}
        outputs = tuple(v for v in needed if v in made)
        kept, live = [], set(outputs)
        for eqn in reversed(group):
            if eqn.effects or live & set(eqn.outvars):
                kept.append(eqn)
                live |= {a for a in eqn.invars if _is_var(a)}
        kept.reverse()
        used = dict.fromkeys(a for eqn in kept for a in eqn.invars if _is_var(a))
        inputs = tuple(v for v in used if v not in made)
        body = jaxpr.replace(
            constvars=[],
            invars=list(inputs),
            outvars=list(outputs),
            eqns=kept,
            debug_info=jaxpr.debug_info.with_unknown_names(),
        )
        segments.append(Segment(_Equations(body), inputs, outputs))
        for v in outputs:
            needed.pop(v)
        needed |= dict.fromkeys(inputs)
    return tuple(reversed(segments))


def _reads(call: Call) -> tuple[Var, ...]:
    if isinstance(call, ExpertCall):
        return call.rows, call.sizes
    return call.count, call.rows, *call.operands


def _gate(eqn: core.JaxprEqn) -> GateCall:
    body = eqn.params["jaxpr"]
    literal = next((a for a in eqn.invars if not _is_var(a)), None)
    if literal is not None:
        raise ValueError(
            f"work for a modality, {gate_of(eqn)!r}, was given the constant {literal}: its "
            "operands must be values of the program"
        )
    count, rows, *operands = eqn.invars

    def function(rows: Any, operands: Any) -> Any:
        there = jnp.asarray(rows.shape[0], count.aval.dtype)  # pyright: ignore
        return evaluate(body.jaxpr, body.consts, [there, rows, *operands])[0]

    name = str(gate_of(eqn))
    return GateCall(count, rows, tuple(operands), eqn.outvars[0], name, function)  # pyright: ignore


def _is_var(atom: Any) -> bool:
    return not isinstance(atom, core.Literal)
