"""Whose fault it is: a node's own exception, with node, program and island named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .errors import NodeError, NotFiniteError
from .graph import Graph


def fault(graph: Graph, node: int, error: BaseException) -> NodeError:
    """The error of a node; `error` is its cause, unless it is one already."""
    if isinstance(error, NodeError):
        return error
    found = NodeError(said(error), graph.name, graph.nodes[node].name, island_name(graph, node))
    found.__cause__ = error
    return found


def blame(graph: Graph, failed: Mapping[int, BaseException], node: int, error: Exception):
    """The error of the first node, among this one and what it depends on, that failed.

    Args:
        graph: of the program.
        failed: what is known to have failed, by node.
        node: whose result was asked for.
        error: what asking raised.
    """
    seen, todo = {node}, [node]
    while todo:
        for ref in graph.nodes[todo.pop()].inputs:
            if ref.node not in seen:
                seen.add(ref.node)
                todo.append(ref.node)
    culprit = min((n for n in seen if n in failed), default=node)
    return fault(graph, culprit, failed.get(culprit, error))


def check_finite(graph: Graph, node: int, arrays: Sequence[Any], name: str) -> None:
    """Waits for a node's outputs.

    Raises:
        NotFiniteError: there is a NaN or an infinity among them.
    """
    for number, array in enumerate(arrays):
        if jnp.issubdtype(array.dtype, jnp.inexact) and not bool(_all_finite(array)):
            raise NotFiniteError(
                f"output {number} is not finite", graph.name, name, island_name(graph, node)
            )


@jax.jit
def _all_finite(array: Any) -> Any:
    return jnp.isfinite(array).all()


def island_name(graph: Graph, node: int) -> str:
    """Where a node is; `none` of arguments and constants."""
    part = graph.nodes[node].slice
    return "none" if part is None else part.island.name


def said(error: BaseException) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {str(error).strip() or 'no message'}"
