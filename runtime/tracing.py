"""Recording the calls of computations as a graph."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .abstract import shape_of
from .errors import ProgramError
from .graph import Graph, Node, Ref, Shape, opaque

if TYPE_CHECKING:
    from .computations import Computation, FlatComputation
    from .conditional import Conditional
    from .resources import Slice

_state = threading.local()


class Traced:
    """A value in a program that is being traced: shape and dtype, and no numbers.

    Attributes:
        ref: its place in the graph.
        shape: of the array.
        dtype: of the array.
    """

    __slots__ = ("builder", "dtype", "ref", "shape")

    def __init__(self, owner: Builder, ref: Ref, shape: Shape):
        self.builder, self.ref, self.shape, self.dtype = owner, ref, shape.shape, shape.dtype

    def _no_numbers(self, *_: Any, **__: Any) -> Any:
        raise ProgramError(
            f"program {self.builder.name!r} computes with {self!r} outside a computation: a "
            "program only calls computations, so put this work into one"
        )

    __array__ = __jax_array__ = __bool__ = __int__ = __float__ = __index__ = _no_numbers
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _no_numbers
    __rtruediv__ = __matmul__ = __rmatmul__ = __neg__ = __pow__ = __getitem__ = _no_numbers
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __rpow__ = __abs__ = _no_numbers
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _no_numbers
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __iter__ = __len__ = _no_numbers
    __hash__ = object.__hash__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks for these itself
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} of program {self.builder.name!r} has no {name!r}: it has a shape and a "
            "dtype, and no numbers; a program only calls computations"
        )

    def __repr__(self) -> str:
        return f"Traced({self.dtype}{list(self.shape)})"


class Builder:
    """The graph so far."""

    def __init__(self, name: str):
        self.name = name
        self.nodes: list[Node] = []
        self._constants: dict[int, Traced] = {}

    def argument(self, shape: Shape, name: str) -> Traced:
        """A leaf of the program's arguments."""
        return self._add("argument", name, (), (shape,))[0]

    def call(self, computation: Computation, args: tuple[Any, ...]) -> Any:
        """A node that runs a computation; returns its result's places."""
        flat, leaves = computation.flat(args)
        inputs = [self.place(leaf, computation.name) for leaf in leaves]
        outs, tree = self.call_flat(flat, inputs)
        return jax.tree.unflatten(tree, outs)

    def call_flat(self, flat: FlatComputation, inputs: list[Traced]) -> tuple[list[Traced], Any]:
        """A node over leaves; returns those of its result, and their structure."""
        signature = flat.signature(tuple(Shape(x.shape, x.dtype) for x in inputs), self.name)
        for position in flat.donated:
            self._check_donation(inputs, position, flat.name)
        outs = self._add(
            "computation",
            flat.name,
            inputs,
            signature.outputs,
            part=flat.slice,
            computation=flat,
            donated=flat.donated,
        )
        return outs, signature.out_tree

    def conditional(
        self, what: Conditional, part: Slice, leaves: Sequence[Any], outputs: Sequence[Shape]
    ) -> list[Traced]:
        """A node that becomes others when its first inputs have been read."""
        inputs = [self.place(leaf, what.name) for leaf in leaves]
        return self._add(
            "conditional",
            what.name,
            inputs,
            tuple(outputs),
            part=part,
            conditional=what,
            donated=what.donated,
        )

    def place(self, leaf: Any, where: str) -> Traced:
        """The place of a leaf: its own, or that of a constant."""
        if isinstance(leaf, Traced):
            if leaf.builder is not self:
                raise ProgramError(
                    f"{where!r} in program {self.name!r} was given a value of the trace of "
                    f"{leaf.builder.name!r}, which is another: pass it as an argument"
                )
            return leaf
        found = self._constants.get(id(leaf))
        if found is None:
            shape = shape_of(leaf, repr(where))
            if hasattr(leaf, "result"):
                value = leaf.result()
            elif (
                opaque(shape)
                or jnp.issubdtype(shape.dtype, jax.dtypes.extended)
                or hasattr(leaf, "fetched")  # on an island of another process, where it is needed
            ):
                value = leaf
            else:
                value = jnp.asarray(leaf, shape.dtype)
            name = f"constant {shape.dtype}{list(shape.shape)}"
            (found,) = self._add("constant", name, (), (shape,), value=value)
            # The value stays alive in the node, so that its id stays its own.
            self._constants[id(leaf)] = found
            self._kept = [*getattr(self, "_kept", ()), leaf]
        return found

    def graph(self, in_tree: Any, result: Any) -> Graph:
        """The finished graph."""
        leaves, out_tree = jax.tree.flatten(result)
        outputs = tuple(self.place(leaf, "return").ref for leaf in leaves)
        return Graph(self.name, tuple(self.nodes), outputs, in_tree, out_tree)

    def _check_donation(self, inputs: Sequence[Traced], position: int, name: str) -> None:
        ref = inputs[position].ref
        if sum(other.ref == ref for other in inputs) > 1:
            raise ProgramError(
                f"node {name!r} of program {self.name!r} takes a value twice and donates it: "
                "pass it once, or do not donate"
            )
        if self.nodes[ref.node].kind == "constant":
            raise ProgramError(
                f"node {name!r} of program {self.name!r} donates a constant, which every run "
                "needs: pass it as an argument of the program"
            )

    def _add(
        self,
        kind: Any,
        name: str,
        inputs: Sequence[Traced],
        outputs: tuple[Shape, ...],
        *,
        part: Slice | None = None,
        **more: Any,
    ) -> list[Traced]:
        refs = tuple(x.ref for x in inputs)
        node = Node(len(self.nodes), kind, name, refs, outputs, part, **more)
        self.nodes.append(node)
        return [Traced(self, Ref(node.index, n), shape) for n, shape in enumerate(outputs)]


def builder() -> Builder | None:
    """The trace that this thread is in."""
    stack = getattr(_state, "builders", None)
    return stack[-1] if stack else None


@contextlib.contextmanager
def tracing(new: Builder) -> Iterator[Builder]:
    """Records calls of computations in `new`."""
    stack = _state.builders = [*getattr(_state, "builders", ()), new]
    try:
        yield new
    finally:
        _state.builders = stack[:-1]


@contextlib.contextmanager
def not_tracing() -> Iterator[None]:
    """Calls run by themselves, whatever is being traced around them."""
    stack = getattr(_state, "builders", ())
    _state.builders = []
    try:
        yield
    finally:
        _state.builders = list(stack)
