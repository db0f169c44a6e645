"""A program as a value: nodes that are whole compiled functions, edges that are sharded arrays."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from .errors import ProgramError

if TYPE_CHECKING:
    from .computations import FlatComputation
    from .conditional import Conditional
    from .resources import Slice

Kind = Literal["argument", "constant", "computation", "conditional"]
Shape = jax.ShapeDtypeStruct

# Of values that are no arrays: the parameters of a switch's branches, and their gradients.
OPAQUE = Shape((), jax.dtypes.float0)


def opaque(shape: Shape) -> bool:
    """Whether a value of this shape is no array."""
    return shape.dtype == jax.dtypes.float0


@dataclasses.dataclass(frozen=True, slots=True)
class Ref:
    """One output of one node."""

    node: int
    output: int


@dataclasses.dataclass(frozen=True)
class Node:
    """One gang: a compiled function and where it runs, whatever its number of shards.

    Attributes:
        index: place in `Graph.nodes`.
        kind: `conditional` nodes become others when their read is known.
        name: for people, errors and traces.
        inputs: what it needs; of a conditional node first what the host reads.
        outputs: shapes and dtypes, known before any input is.
        slice: where; None of arguments and constants.
        computation: the function; None where `kind` is not `computation`.
        donated: positions in `inputs` whose buffers it takes over.
        conditional: how to expand it; None where `kind` is not `conditional`.
        value: of a constant.
    """

    index: int
    kind: Kind
    name: str
    inputs: tuple[Ref, ...] = ()
    outputs: tuple[Shape, ...] = ()
    slice: Slice | None = None
    computation: FlatComputation | None = None
    donated: tuple[int, ...] = ()
    conditional: Conditional | None = None
    value: Any = None


@dataclasses.dataclass(frozen=True)
class Graph:
    """A traced program: nodes in the order in which they are dispatched.

    Attributes:
        name: the program's.
        nodes: arguments first; every input is made by an earlier node.
        outputs: the leaves that the program returns.
        in_tree: structure of the program's arguments.
        out_tree: structure of its result.
    """

    name: str
    nodes: tuple[Node, ...]
    outputs: tuple[Ref, ...]
    in_tree: Any
    out_tree: Any

    def __post_init__(self) -> None:
        donated: dict[Ref, str] = {}
        for position, node in enumerate(self.nodes):
            where = f"node {node.name!r} of program {self.name!r}"
            if node.index != position:
                raise ProgramError(f"{where} has index {node.index} at place {position}")
            for ref in node.inputs:
                if ref.node >= position:
                    raise ProgramError(
                        f"{where} takes the output of {self.nodes[ref.node].name!r}, which comes "
                        "no earlier: the graph has a cycle, or is not in order"
                        if ref.node < len(self.nodes)
                        else f"{where} takes the output of node {ref.node}, which is not there"
                    )
                if not 0 <= ref.output < len(self.nodes[ref.node].outputs):
                    raise ProgramError(f"{where} takes an output that {ref} does not have")
                if ref in donated:
                    raise ProgramError(
                        f"{where} uses a value that was donated to {donated[ref]!r} before: "
                        "call it earlier, or do not donate"
                    )
            for place in node.donated:
                donated[node.inputs[place]] = node.name
            self._check_shapes(node, where)
        for ref in self.outputs:
            if ref in donated:
                raise ProgramError(
                    f"program {self.name!r} returns a value that was donated to "
                    f"{donated[ref]!r}: return that node's output instead"
                )

    def _check_shapes(self, node: Node, where: str) -> None:
        if node.computation is None:
            return
        given = tuple(self.shape(ref) for ref in node.inputs)
        signature = node.computation.signature_of(given)
        if signature is None:
            raise ProgramError(f"{where} was never traced with inputs {_shapes(given)}")
        made = tuple((s.shape, s.dtype) for s in signature.outputs)
        said = tuple((s.shape, s.dtype) for s in node.outputs)
        if made != said:
            raise ProgramError(
                f"{where} makes {_shapes(signature.outputs)} of its inputs, and the graph "
                f"says {_shapes(node.outputs)}"
            )

    def shape(self, ref: Ref) -> Shape:
        """Shape and dtype of a value."""
        return self.nodes[ref.node].outputs[ref.output]

    @property
    def arguments(self) -> tuple[Node, ...]:
        """The nodes of the arguments, in the order of their leaves."""
        return tuple(node for node in self.nodes if node.kind == "argument")

    def cost(self) -> Cost:
        """FLOPs and bytes by the compiler's count, of what is static."""
        flops = moved = 0.0
        for node in self.nodes:
            if node.computation is not None:
                given = tuple(self.shape(ref) for ref in node.inputs)
                analysis = node.computation.executable(given).cost
                flops += analysis.get("flops", 0.0)
                moved += analysis.get("bytes accessed", 0.0)
        calls = sum(node.kind == "computation" for node in self.nodes)
        dynamic = sum(node.kind == "conditional" for node in self.nodes)
        return Cost(flops, moved, calls, dynamic)

    def mermaid(self) -> str:
        """A Mermaid flow chart."""
        from .drawing import mermaid

        return mermaid(self)

    def graphviz(self) -> str:
        """A drawing in DOT."""
        from .drawing import graphviz

        return graphviz(self)

    def __str__(self) -> str:
        from .graph_text import graph_text

        return graph_text(self)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a program costs; conditional nodes are counted and not costed.

    Attributes:
        flops: by XLA's count.
        bytes: read and written, by XLA's count.
        nodes: static nodes.
        conditional: nodes whose work depends on data.
    """

    flops: float
    bytes: float
    nodes: int
    conditional: int


def is_keys(shape: Shape) -> bool:
    """Whether these are random keys, whose arrays cannot be asked whether they are ready."""
    return jnp.issubdtype(shape.dtype, jax.dtypes.extended)


def nbytes(shape: Shape) -> int:
    """Bytes of one whole (logical) array."""
    return math.prod(shape.shape) * shape.dtype.itemsize


def _shapes(shapes: tuple[Shape, ...]) -> str:
    return "(" + ", ".join(f"{s.dtype}{list(s.shape)}" for s in shapes) + ")"
