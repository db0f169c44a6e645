"""Which values of a program gradients flow through."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from .graph import Graph, Node, Ref, Shape, opaque


def differentiable(shape: Shape) -> bool:
    """Whether there are gradients by such a value: floats, and parameters of branches."""
    return opaque(shape) or jnp.issubdtype(shape.dtype, jnp.inexact)


def flows(graph: Graph, wanted: Sequence[Ref], loss: Ref) -> frozenset[Ref]:
    """Values between what is differentiated by and the loss."""
    active = set(wanted)
    for node in graph.nodes:
        moving = {n for n, ref in enumerate(node.inputs) if ref in active}
        if moving:
            active |= {
                Ref(node.index, n)
                for n, on in enumerate(_dependence(graph, node))
                if moving & on and differentiable(node.outputs[n])
            }
    useful = {loss}
    for node in reversed(graph.nodes):
        for n, on in enumerate(_dependence(graph, node)):
            if Ref(node.index, n) in useful:
                useful |= {node.inputs[i] for i in on}
    return frozenset(active & useful)


def _dependence(graph: Graph, node: Node) -> list[frozenset[int]]:
    """For each output of a node the inputs that it depends on."""
    if node.computation is None:
        return [frozenset(range(len(node.inputs)))] * len(node.outputs)
    return node.computation.depends(tuple(graph.shape(ref) for ref in node.inputs))
