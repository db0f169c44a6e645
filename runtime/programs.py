"""Functions that call computations, traced into graphs, cached and run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import jax
from jax._src.array import ArrayImpl  # the exact type, for a fast look

from .abstract import shape_of
from .client import current_client
from .errors import ProgramError
from .graph import Cost, Graph, Shape
from .plan import Plan, lower, slices_of
from .run import Run
from .system import Runtime
from .tracing import Builder, builder, tracing
from .values import Value


class Program:
    """A traced function. Called with arrays it runs and gives futures at once.

    Called in another program's trace it becomes part of that.

    Attributes:
        fn: a function of pytrees that calls computations, programs and switches.
        name: in errors and traces.
        recipe: of a program that was made of others: what made it, its arguments and its options,
            by which it is made again elsewhere.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        recipe: tuple[Callable[..., Any], tuple, dict[str, Any]] | None = None,
    ):
        self.fn, self.name = fn, name or getattr(fn, "__name__", type(fn).__name__)
        self.recipe = recipe
        self._plans: dict[Any, Any] = {}
        self._graphs: dict[Any, Graph] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: Any) -> Any:
        """Runs it: sends all that depends on no data, and returns futures (`Value`s).

        Args:
            args: pytrees of arrays, numbers and futures; where they are does not matter.

        Raises:
            ProgramError: what cannot be traced with such arguments.
            SliceError, IslandLost: a slice has no devices.
            what an argument that is a future raises.
        """
        if builder() is not None:
            return self.fn(*args)
        leaves, tree = jax.tree.flatten(args)
        key = (tree, *[_kind(leaf, self.name) for leaf in leaves])
        plan = self._plans.get(key)
        if plan is None or not plan.fresh:
            plan = self._plan(key, args)
        if type(plan) is not Plan:  # of a system whose controller is another process
            return jax.tree.unflatten(plan.graph.out_tree, plan.start(leaves))
        system = _system(plan.graph)
        client = current_client(system)
        if client.runs:
            client.advance_others()
        values = Run(system, plan, client).start(leaves)
        return jax.tree.unflatten(plan.graph.out_tree, values)

    def trace(self, *args: Any) -> Graph:
        """The graph for arguments of these shapes (arrays or `jax.ShapeDtypeStruct`s).

        Raises:
            ProgramError: shapes that do not fit, a value used wrongly, nothing that is called.
        """
        leaves, tree = jax.tree.flatten(args)
        return self._graph((tree, *[_kind(leaf, self.name) for leaf in leaves]), args)

    def compile(self, *args: Any) -> Any:
        """Lowers and compiles ahead, also what may wake; running it later compiles nothing.

        Returns:
            the plan: segments, transfers, and what is dropped when.
        """
        leaves, tree = jax.tree.flatten(args)
        plan = self._plan((tree, *[_kind(leaf, self.name) for leaf in leaves]), args)
        if type(plan) is not Plan:
            plan.compile()
            return plan
        for node in plan.graph.nodes:
            if node.conditional is not None and node.conditional.compile is not None:
                node.conditional.compile()
        return plan

    def cost(self, *args: Any) -> Cost:
        """FLOPs and bytes by the compiler's count, of what is static."""
        return self.trace(*args).cost()

    def _plan(self, key: Any, args: tuple[Any, ...]) -> Any:
        with self._lock:
            plan = self._plans.get(key)
            if plan is None or not plan.fresh:
                graph = self._graph(key, args)
                system = _system(graph)
                own = isinstance(system, Runtime)
                plan = self._plans[key] = lower(graph) if own else system.plan(self, graph, args)
            return plan

    def _graph(self, key: Any, args: tuple[Any, ...]) -> Graph:
        with self._lock:
            if key not in self._graphs:
                self._graphs[key] = self._traced(args)
            return self._graphs[key]

    def _traced(self, args: tuple[Any, ...]) -> Graph:
        paths, tree = jax.tree_util.tree_flatten_with_path(args)
        made = Builder(self.name)
        places = []
        for path, leaf in paths:
            name = f"arg{jax.tree_util.keystr(path)}"
            places.append(made.argument(shape_of(leaf, f"program {self.name!r}"), name))
        with tracing(made):
            try:
                result = self.fn(*jax.tree.unflatten(tree, places))
            except ValueError as error:
                if "__jax_array__" not in str(error):
                    raise
                raise ProgramError(
                    f"program {self.name!r} calls a function of JAX with a traced value outside a "
                    "computation: a program only calls computations, so put this work into one"
                ) from error
        graph = made.graph(tree, result)
        if not slices_of(graph):
            raise ProgramError(
                f"program {self.name!r} calls no computation: there is nothing to run"
            )
        _system(graph)
        return graph

    def __repr__(self) -> str:
        return f"Program({self.name!r})"


def program(fn: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
    """Makes a function of calls of computations a `Program`; also `@program(name=…)`."""
    if fn is None:
        return lambda wrapped: Program(wrapped, name)
    return Program(fn, name)


def _kind(leaf: Any, where: str) -> Any:
    """What of a leaf the trace depends on."""
    kind = type(leaf)
    if kind is ArrayImpl or kind is Value:
        return leaf.shape, leaf.dtype
    shape: Shape = shape_of(leaf, f"program {where!r}")
    return shape.shape, shape.dtype


def _system(graph: Graph) -> Any:
    """The runtime of all its slices, or the system that is attached to."""
    found: Any = None
    for node in graph.nodes:
        if node.slice is not None:
            system = node.slice.system
            if found is not None and system is not found:
                raise ProgramError(
                    f"program {graph.name!r} has slices of two runtimes: take all of them from one"
                )
            found = system
    assert found is not None
    return found
