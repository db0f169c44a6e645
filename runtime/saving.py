"""Nodes that keep what their backward needs, rather than computing their forward again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from .computations import FlatComputation
from .graph import Shape
from .pulling import moved, total


class Saving:
    """A node's function as a forward that also gives residuals, and the backward that takes them.

    Residuals are all that `jax.vjp` keeps; what of it is an input or an output of the node is not
    kept twice. (Keeping products alone and computing what lies between them again held less, and
    took a sixth longer, in the blocks of a transformer on a CPU.)

    Attributes:
        outputs: how many outputs the function has; the forward's further ones are residuals.
        inputs: positions of inputs that the backward takes.
        results: positions of outputs that it takes.
    """

    def __init__(
        self, flat: FlatComputation, moving: list[int], outs: list[int], shapes: Sequence[Shape]
    ):
        trees: list[Any] = []

        def whole(*inputs: Any) -> list[Any]:
            run = moved(flat, moving, inputs)

            def wanted(*some: Any) -> tuple[list[Any], list[Any]]:
                made = run(*some)
                return [made[n] for n in outs], made

            _, pull, made = jax.vjp(wanted, *[inputs[n] for n in moving], has_aux=True)
            leaves, tree = jax.tree.flatten(pull)
            trees.append((tree, len(made)))
            return [*made, *leaves]

        closed = jax.make_jaxpr(whole)(*shapes)
        self._tree, self.outputs = trees[-1]
        jaxpr = closed.jaxpr
        ins = {var: n for n, var in enumerate(jaxpr.invars)}
        made = {}
        for n, atom in enumerate(jaxpr.outvars[: self.outputs]):
            if not isinstance(atom, core.Literal):
                made.setdefault(atom, n)
        # Of each residual: where the backward finds it.
        self._sources: list[tuple[str, Any]] = []
        kept: dict[Any, int] = {}
        for atom in jaxpr.outvars[self.outputs :]:
            if isinstance(atom, core.Literal):
                self._sources.append(("constant", atom.val))
            elif atom in ins:
                self._sources.append(("input", ins[atom]))
            elif atom in made:
                self._sources.append(("output", made[atom]))
            else:
                self._sources.append(("kept", kept.setdefault(atom, len(kept))))
        self.inputs = sorted({n for kind, n in self._sources if kind == "input"})
        self.results = sorted({n for kind, n in self._sources if kind == "output"})
        outvars = [*jaxpr.outvars[: self.outputs], *kept]
        body = jaxpr.replace(outvars=outvars, debug_info=jaxpr.debug_info.with_unknown_names())
        self._forward = core.jaxpr_as_fun(core.ClosedJaxpr(body, closed.consts))

    def forward(self, inputs: list[Any]) -> list[Any]:
        """Inputs to outputs and residuals."""
        return list(self._forward(*inputs))

    def backward(
        self, kept: list[Any], inputs: list[Any], results: list[Any], pieces: list[Any]
    ) -> list[Any]:
        """Residuals, the inputs and outputs it takes, and pieces of the cotangents of outputs that
        gradients flow from, to the cotangents of the moving inputs."""
        given = dict(zip(self.inputs, inputs, strict=True))
        made = dict(zip(self.results, results, strict=True))
        find: dict[str, Callable[[Any], Any]] = {
            "constant": lambda value: value,
            "input": lambda n: given[n],
            "output": lambda n: made[n],
            "kept": lambda n: kept[n],
        }
        leaves = [find[kind](n) for kind, n in self._sources]
        pull = jax.tree.unflatten(self._tree, leaves)
        return list(pull([total(found) for found in pieces]))
