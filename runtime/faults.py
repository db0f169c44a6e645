"""Whose fault it is: a node's own exception, with node, program and island named."""

from __future__ import annotations

import copy
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .errors import IslandLost, NodeError, NotFiniteError
from .graph import Graph
from .waiting import fetched

# Innermost frames of a cause that are kept as text.
TRACEBACK = 12


def fault(graph: Graph, node: int, error: BaseException) -> BaseException:
    """The error of a node; `error` is its cause, unless it is one, or tells of a lost island."""
    if isinstance(error, NodeError | IslandLost):
        return bare(error)
    found = NodeError(said(error), graph.name, graph.nodes[node].name, island_name(graph, node))
    found.__cause__ = error
    return bare(found)


def bare(error: BaseException) -> BaseException:
    """An error to keep: with the tracebacks of its causes as text, and without any frames.

    A frame holds all that it and its callers knew, so arrays, until the error is gone.
    """
    if error.__cause__ is not None and error.__cause__.__traceback__ is not None:
        said = traceback.format_exception(error.__cause__, limit=-TRACEBACK)
        error.add_note("The cause was raised here:\n" + "".join(said))
    seen: BaseException | None = error
    while seen is not None:
        seen.__traceback__ = None
        seen = seen.__cause__ or seen.__context__
    return error


def tell_all(listeners: Sequence[Callable[[str], None]], island: str) -> None:
    """Calls each with the name of an island that is lost; an error of one is a warning."""
    for tell in list(listeners):
        try:
            tell(island)
        except Exception as error:  # the others are to be told, too
            text = f"who is told that island {island!r} is lost fails: {said(error)}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)


def again(error: BaseException) -> BaseException:
    """A kept error for one more who asks: raising adds frames to it, so each has a copy."""
    found = copy.copy(error)
    found.__cause__ = error.__cause__
    return found


def blame(
    graph: Graph, failed: Mapping[int, BaseException], node: int, error: Exception
) -> BaseException:
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
        if jnp.issubdtype(array.dtype, jnp.inexact) and not bool(_all_finite(fetched(array))):
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
