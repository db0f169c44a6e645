"""`value_and_grad` of a program: every node that gradients flow through has a backward node.

A backward node computes its forward again and pulls the cotangents back (rematerialisation: between
the two only the node's inputs are held), on the same slice. Several cotangents of one value are
added in the node that takes them. Where a loss comes out of a node, its forward and backward are
one. A switch has a backward of its own, in which only branches that were awake take part, and
their parameters' gradient is `Sparse`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .computations import Computation, FlatComputation
from .errors import ProgramError
from .flows import differentiable, flows
from .graph import OPAQUE, Graph, Node, Ref, Shape, opaque
from .plan import slices_of
from .programs import Program
from .pulling import add_sparse, forward_and_pull, pull_back, total
from .saving import Saving
from .tracing import Builder, Traced, builder


def value_and_grad(
    fn: Program | Callable[..., Any],
    argnums: int | tuple[int, ...] = 0,
    *,
    has_aux: bool = False,
    save: bool = False,
) -> Program:
    """As `jax.value_and_grad`, of a program.

    Args:
        fn: a program, or a function that could be one, of pytrees; it returns a float scalar, or
            with `has_aux` (scalar, aux).
        argnums: arguments to differentiate by, from the end if negative; their leaves are floats
            or `Branches`.
        has_aux: see above.
        save: nodes on one device keep the results of their products for their backward, which is
            faster and holds more; by default their forward is computed again.

    Returns:
        a program of the same arguments: (value, gradients) or ((value, aux), gradients); a tree
        like the argument, or a tuple of them, with a `Sparse` for each `Branches`.

    Raises, when traced:
        ProgramError: no scalar, integers to differentiate by, or a conditional node in the way
            that has no backward.
    """
    inner = fn if isinstance(fn, Program) else Program(fn)
    given = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    # One for each graph: so that its backward computations are compiled once.
    known: dict[int, _Differentiated] = {}

    def both(*args: Any) -> Any:
        made = builder()
        assert made is not None
        outside = [n for n in given if not -len(args) <= n < len(args)]
        if outside:
            raise ProgramError(
                f"program {inner.name!r} cannot be differentiated by argument {outside[0]}: it was "
                f"given {len(args)}"
            )
        numbers = [n % len(args) for n in given]
        counts = [len(jax.tree.leaves(arg)) for arg in args]
        starts = [sum(counts[:n]) for n in range(len(counts) + 1)]
        wanted = [place for n in numbers for place in range(starts[n], starts[n] + counts[n])]
        graph = inner.trace(*args)
        _check_results(graph, has_aux)
        if id(graph) not in known:
            known[id(graph)] = _Differentiated(graph, wanted, save)
        leaves = [made.place(leaf, inner.name) for leaf in jax.tree.leaves(args)]
        results, grads = known[id(graph)].emit(made, leaves)
        out = jax.tree.unflatten(graph.out_tree, results)
        trees = []
        for n in numbers:
            own = [grads[place] for place in range(starts[n], starts[n] + counts[n])]
            trees.append(jax.tree.unflatten(jax.tree.structure(args[n]), own))
        return out, trees[0] if isinstance(argnums, int) else tuple(trees)

    recipe = value_and_grad, (inner, argnums), {"has_aux": has_aux, "save": save}
    return Program(both, f"{inner.name} and gradients", recipe)


def _check_results(graph: Graph, has_aux: bool) -> None:
    """A scalar comes first, and alone unless there is to be something beside it."""
    out = jax.tree.unflatten(graph.out_tree, graph.outputs)
    if has_aux:
        out = out[0] if isinstance(out, tuple) and len(out) == 2 else None
    if not isinstance(out, Ref):
        raise ProgramError(
            f"program {graph.name!r} returns {graph.out_tree}: value_and_grad takes a scalar, "
            "or with has_aux=True a pair of a scalar and anything"
        )


@dataclasses.dataclass(frozen=True)
class _Spread:
    """A cotangent in parts, one for each slice of a switch."""

    parts: tuple[Traced, ...]
    counts: Traced

    def tree(self) -> dict[str, Any]:
        return {"parts": list(self.parts), "counts": self.counts}


class _Differentiated:
    """A graph's backward: which nodes gradients flow through, and how."""

    def __init__(self, graph: Graph, wanted: Sequence[int], save: bool):
        self.graph, self.wanted, self.save = graph, list(wanted), save
        self.loss = graph.outputs[0]
        shape = graph.shape(self.loss)
        if shape.shape or not jnp.issubdtype(shape.dtype, jnp.floating):
            raise ProgramError(
                f"program {graph.name!r} returns first {shape.dtype}{list(shape.shape)}: "
                "value_and_grad takes a float scalar"
            )
        self.arguments = graph.arguments
        for place in self.wanted:
            node = self.arguments[place]
            if not differentiable(node.outputs[0]):
                raise ProgramError(
                    f"program {graph.name!r} cannot be differentiated by {node.name}, which is "
                    f"{node.outputs[0].dtype}: leave it out of argnums"
                )
        wanted_refs = [Ref(self.arguments[place].index, 0) for place in self.wanted]
        self.flows = flows(graph, wanted_refs, self.loss)
        self.last = self._last_node()
        self._back: dict[Any, Computation] = {}
        self._saving: dict[int, Saving] = {}

    def _last_node(self) -> int | None:
        """The node that makes the loss, if nothing else of it matters to the loss."""
        node = self.graph.nodes[self.loss.node]
        alone = [Ref(node.index, n) in self.flows for n in range(len(node.outputs))].count(True)
        return node.index if node.computation is not None and alone == 1 else None

    # Forwards.

    def emit(self, made: Builder, leaves: list[Traced]) -> tuple[list[Traced], dict[int, Traced]]:
        """Adds all nodes; returns the program's results and gradients by argument leaf."""
        values: dict[Ref, Traced] = {}
        kept: dict[int, Any] = {}
        pieces: dict[Ref, list[Any]] = {}
        rest = iter(leaves)
        for node in self.graph.nodes:
            inputs = [values[ref] for ref in node.inputs]
            if node.kind == "argument":
                outs = [next(rest)]
            elif node.kind == "constant":
                outs = [made.place(node.value, self.graph.name)]
            elif node.index == self.last and self._moving(node):
                outs = self._forward_and_back(made, node, inputs, pieces)
            elif node.computation is not None and self._saves(node):
                outs = self._forward_saving(made, node, inputs, kept)
            elif node.computation is not None:
                outs, _ = made.call_flat(node.computation.undonated(), inputs)
            else:
                outs = self._conditional(made, node, inputs, kept)
            for n, out in enumerate(outs):
                values[Ref(node.index, n)] = out
        if self.loss in self.flows and self.last is None:
            part = self.graph.nodes[self.loss.node].slice or slices_of(self.graph)[0]
            one = Computation(jnp.ones_like, part, name="one")
            pieces[self.loss] = [made.call(one, (values[self.loss],))]
        for node in reversed(self.graph.nodes):
            if node.index == self.last or node.kind in ("argument", "constant"):
                continue
            if not self._moving(node):
                continue
            if node.index in self._saving:
                self._pull_saved(made, node, values, kept, pieces)
            elif node.computation is not None:
                self._pull(made, node, values, pieces)
            else:
                self._pull_conditional(made, node, values, kept, pieces)
        grads = {place: self._gradient(made, place, values, pieces) for place in self.wanted}
        return [values[ref] for ref in self.graph.outputs], grads

    def _moving(self, node: Node) -> list[int]:
        """Inputs that gradients flow to; none if nothing flows from the node."""
        if not any(Ref(node.index, n) in self.flows for n in range(len(node.outputs))):
            return []
        return [n for n, ref in enumerate(node.inputs) if ref in self.flows]

    def _conditional(
        self, made: Builder, node: Node, inputs: list[Traced], kept: dict[int, Any]
    ) -> list[Traced]:
        what, outputs = node.conditional, list(node.outputs)
        assert what is not None
        assert node.slice is not None
        if not self._moving(node):
            return made.conditional(what, node.slice, inputs, outputs)
        if what.backward is None:
            raise ProgramError(
                f"node {node.name!r} of program {self.graph.name!r} has no backward: gradients "
                "cannot flow through it; take a switch, or leave it out of the loss"
            )
        keeping, outputs = what.backward.forward_keeping()
        *outs, kept[node.index] = made.conditional(keeping, node.slice, inputs, outputs)
        return outs

    def _saves(self, node: Node) -> bool:
        # How residuals should be spread over several devices is not ours to know.
        alone = node.slice is not None and node.slice.size == 1
        return self.save and alone and bool(self._moving(node))

    def _forward_saving(
        self, made: Builder, node: Node, inputs: list[Traced], kept: dict[int, Any]
    ) -> list[Traced]:
        flat = node.computation
        assert flat is not None
        if node.index not in self._saving:
            outs = [n for n in range(len(node.outputs)) if Ref(node.index, n) in self.flows]
            shapes = [self.graph.shape(ref) for ref in node.inputs]
            self._saving[node.index] = Saving(flat, self._moving(node), outs, shapes)
        saving = self._saving[node.index]
        key = ("saving", node.index)
        forward = self._computation(key, saving.forward, node, None, None, node.name)
        found = made.call(forward, (inputs,))
        kept[node.index] = found[saving.outputs :]
        return found[: saving.outputs]

    def _forward_and_back(
        self, made: Builder, node: Node, inputs: list[Traced], pieces: dict[Ref, list[Any]]
    ) -> list[Traced]:
        flat, moving = node.computation, self._moving(node)
        assert flat is not None
        whole = forward_and_pull(flat, moving, self.loss.output)
        specs = self._specs(flat, node, moving)
        computation = self._computation(
            ("last", node.index),
            whole,
            node,
            (specs.inputs,),
            (specs.outputs, specs.moving),
            f"{node.name} and backward",
        )
        outs, cotangents = made.call(computation, (inputs,))
        _give(pieces, [node.inputs[n] for n in moving], cotangents)
        return outs

    def _specs(self, flat: FlatComputation, node: Node, moving: list[int]) -> _Specs:
        given = tuple(self.graph.shape(ref) for ref in node.inputs)
        ins = list(flat.in_specs)
        return _Specs(ins, flat.spread_outputs(given), [ins[n] for n in moving])

    # Backwards.

    def _pull(
        self,
        made: Builder,
        node: Node,
        values: dict[Ref, Traced],
        pieces: dict[Ref, list[Any]],
    ) -> None:
        flat, moving = node.computation, self._moving(node)
        assert flat is not None
        outs = [n for n in range(len(node.outputs)) if Ref(node.index, n) in pieces]
        if not outs:
            return
        given = _taken(pieces, [Ref(node.index, n) for n in outs])
        recipe = jax.tree.structure(given)
        specs = self._specs(flat, node, moving)
        along = [
            jax.tree.map(lambda _, n=n: specs.outputs[n], one)
            for n, one in zip(outs, given, strict=True)
        ]
        computation = self._computation(
            (node.index, tuple(outs), recipe),
            pull_back(flat, moving, outs),
            node,
            (specs.inputs, along),
            specs.moving,
            f"{node.name} backward",
        )
        inputs = [values[ref] for ref in node.inputs]
        cotangents = made.call(computation, (inputs, given))
        _give(pieces, [node.inputs[n] for n in moving], cotangents)

    def _pull_saved(
        self,
        made: Builder,
        node: Node,
        values: dict[Ref, Traced],
        kept: dict[int, Any],
        pieces: dict[Ref, list[Any]],
    ) -> None:
        saving, moving = self._saving[node.index], self._moving(node)
        refs = [Ref(node.index, n) for n in range(len(node.outputs))]
        given = _taken(pieces, [ref for ref in refs if ref in self.flows])
        inputs = [values[node.inputs[n]] for n in saving.inputs]
        results = [values[refs[n]] for n in saving.results]
        key = ("saved", node.index, jax.tree.structure(given))
        name = f"{node.name} backward"
        back = self._computation(key, saving.backward, node, None, None, name)
        cotangents = made.call(back, (kept[node.index], inputs, results, given))
        _give(pieces, [node.inputs[n] for n in moving], cotangents)

    def _pull_conditional(
        self,
        made: Builder,
        node: Node,
        values: dict[Ref, Traced],
        kept: dict[int, Any],
        pieces: dict[Ref, list[Any]],
    ) -> None:
        what = node.conditional
        assert what is not None
        assert what.backward is not None
        assert node.slice is not None
        grads = []
        for n, shape in enumerate(node.outputs):
            found = pieces.pop(Ref(node.index, n), [])
            grads.append(self._summed(made, found, shape, node))
        back = what.backward.differentiated()
        taken = [values[node.inputs[place]] for place in back.takes]
        leaves = [kept[node.index], *taken, *grads]
        found = iter(made.conditional(back.conditional, node.slice, leaves, back.outputs))
        for given in back.gives:
            ref, parts = node.inputs[given.input], [next(found) for _ in range(given.parts)]
            if ref in self.flows:
                whole: Any = parts[0]
                if given.parts > 1:
                    whole = _Spread(tuple(parts), values[node.inputs[given.counts]])
                pieces.setdefault(ref, []).append(whole)

    def _summed(
        self, made: Builder, found: list[Any], shape: Shape, node: Node, spec: Any = None
    ) -> Traced:
        """One cotangent out of any number of pieces; spread over the node's slice as `spec`."""
        if len(found) == 1 and isinstance(found[0], Traced):
            return found[0]
        given = [piece.tree() if isinstance(piece, _Spread) else piece for piece in found]
        key = ("sum", node.index, shape.shape, shape.dtype, jax.tree.structure(given), spec)
        fn = total if given else lambda _: jnp.zeros(shape.shape, shape.dtype)
        computation = self._computation(key, fn, node, None, spec, f"{node.name} cotangent")
        return made.call(computation, (given,))

    def _gradient(
        self, made: Builder, place: int, values: dict[Ref, Traced], pieces: dict[Ref, list[Any]]
    ) -> Traced:
        argument = self.arguments[place]
        ref = Ref(argument.index, 0)
        found, shape = pieces.pop(ref, []), argument.outputs[0]
        user = next((n for n in self.graph.nodes if ref in n.inputs), None)
        where = user or next(n for n in self.graph.nodes if n.slice is not None)
        if not opaque(shape):
            spec = None
            if user is not None and user.computation is not None:
                spec = user.computation.in_specs[user.inputs.index(ref)]
            return self._summed(made, found, shape, where, spec)
        if len(found) == 1:
            return found[0]
        assert where.slice is not None
        (out,) = made.conditional(add_sparse(len(found)), where.slice, found, [OPAQUE])
        return out

    def _computation(
        self, key: Any, fn: Any, node: Node, in_specs: Any, out_specs: Any, name: str
    ) -> Computation:
        if key not in self._back:
            assert node.slice is not None
            self._back[key] = Computation(
                fn, node.slice, name=name, in_specs=in_specs, out_specs=out_specs
            )
        return self._back[key]


def _taken(pieces: dict[Ref, list[Any]], refs: Sequence[Ref]) -> list[list[Any]]:
    """The pieces of these values' cotangents, which are then forgotten."""
    return [
        [piece.tree() if isinstance(piece, _Spread) else piece for piece in pieces.pop(ref)]
        for ref in refs
    ]


def _give(pieces: dict[Ref, list[Any]], refs: Sequence[Ref], cotangents: Sequence[Traced]) -> None:
    """A further piece for each of these values."""
    for ref, cotangent in zip(refs, cotangents, strict=True):
        pieces.setdefault(ref, []).append(cotangent)


@dataclasses.dataclass(frozen=True)
class _Specs:
    """How a node's leaves are spread over its slice; None is replicated."""

    inputs: list[Any]
    outputs: list[Any]
    moving: list[Any]
