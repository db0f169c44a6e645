"""A function placed on a slice: the node of a program, whatever the number of its shards."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec, Sharding

from .abstract import shape_of
from .dependence import dependence
from .errors import ProgramError
from .graph import Shape, is_keys, nbytes
from .resources import Slice
from .tracing import builder


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a function makes of inputs of given shapes.

    Attributes:
        outputs: shapes of the leaves it returns.
        out_tree: their structure.
    """

    outputs: tuple[Shape, ...]
    out_tree: Any


@dataclasses.dataclass(frozen=True)
class Executable:
    """A signature compiled for the devices that a slice has now.

    Attributes:
        call: leaves in, a list of leaves out; returns before the work is done.
        inputs: shardings of the leaves it takes.
        outputs: shardings of those it returns.
        watched: number of the smallest output, by which completion is seen; -1 if there are none.
        made: bytes of its outputs on all devices together.
        gang: it runs on several devices at once, so its order matters.
        cost: XLA's count (`flops`, `bytes accessed`, …).
    """

    call: Callable[..., list[jax.Array]]
    inputs: tuple[Sharding, ...]
    outputs: tuple[Sharding, ...]
    watched: int
    made: int
    gang: bool
    cost: dict[str, float]


class FlatComputation:
    """A function of leaves: a `Computation` for one structure of its arguments."""

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        part: Slice,
        in_tree: Any,
        in_specs: tuple[PartitionSpec | None, ...],
        out_specs: Any,
        donated: tuple[int, ...],
    ):
        self.name, self.fn, self.slice, self.in_tree = name, fn, part, in_tree
        self.in_specs, self.out_specs, self.donated = in_specs, out_specs, donated
        self._signatures: dict[tuple, Signature] = {}
        self._executables: dict[tuple, Executable] = {}
        self._lock = threading.Lock()
        self._undonated: FlatComputation | None = None
        self._depends: dict[tuple, list[frozenset[int]]] = {}

    def flat(self, *leaves: Any) -> tuple[list[Any], Any]:
        """The function over leaves, and the structure of what it returned."""
        out = self.fn(*jax.tree.unflatten(self.in_tree, leaves))
        return jax.tree.flatten(out)

    def undonated(self) -> FlatComputation:
        """The same, leaving its inputs to others."""
        if not self.donated:
            return self
        if self._undonated is None:
            given = self.name, self.fn, self.slice, self.in_tree, self.in_specs, self.out_specs
            self._undonated = FlatComputation(*given, donated=())
        return self._undonated

    def depends(self, inputs: tuple[Shape, ...]) -> list[frozenset[int]]:
        """For each output the inputs through which gradients may flow to it."""
        key = _key(inputs)
        if key not in self._depends:
            self._depends[key] = dependence(lambda *given: self.flat(*given)[0], inputs)
        return self._depends[key]

    def spread_outputs(self, inputs: tuple[Shape, ...]) -> list[PartitionSpec | None]:
        """How each output is spread."""
        tree = self.signature(inputs).out_tree
        return list(_spread(self.out_specs, tree, f"out_specs of {self.name!r}"))

    def signature_of(self, inputs: tuple[Shape, ...]) -> Signature | None:
        """The signature, if it was made before."""
        return self._signatures.get(_key(inputs))

    def signature(self, inputs: tuple[Shape, ...], program: str = "") -> Signature:
        """What comes out; traces the function once for each tuple of shapes.

        Raises:
            ProgramError: the function does not take such inputs, or returns what is no array.
        """
        key = _key(inputs)
        found = self._signatures.get(key)
        if found is None:
            trees: list[Any] = []

            def leaves(*given):
                out, tree = self.flat(*given)
                trees.append(tree)
                return out

            try:
                shapes = jax.eval_shape(leaves, *inputs)
            except Exception as error:
                said = ", ".join(f"{s.dtype}{list(s.shape)}" for s in inputs)
                raise ProgramError(
                    f"node {self.name!r}{f' of program {program!r}' if program else ''} does not "
                    f"take inputs ({said}): {_first_line(error)}"
                ) from error
            found = Signature(tuple(Shape(s.shape, s.dtype) for s in shapes), trees[-1])
            self._signatures[key] = found
        return found

    def executable(self, inputs: tuple[Shape, ...]) -> Executable:
        """Compiled for the slice's devices; once for each tuple of shapes and mapping."""
        key = (self.slice.version, _key(inputs))
        found = self._executables.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._executables:
                made = self.slice.backend.compile(self, inputs)
                for old in [old for old in self._executables if old[0] < key[0]]:
                    del self._executables[old]  # for where the slice stood before
                self._executables[key] = made
            return self._executables[key]

    @property
    def compiled(self) -> int:
        """How many executables there are for where the slice stands, or stood last."""
        return len(self._executables)

    def spread(
        self, inputs: tuple[Shape, ...]
    ) -> tuple[tuple[Sharding, ...], tuple[Sharding, ...]]:
        """How inputs and outputs lie on the devices that the slice has now."""
        tree = self.signature(inputs).out_tree
        outs = _spread(self.out_specs, tree, f"out_specs of {self.name!r}")
        place = self.slice.sharding
        return tuple(map(place, self.in_specs)), tuple(map(place, outs))

    def compile_for_jax(self, inputs: tuple[Shape, ...]) -> Executable:
        """Compiles for devices of this process."""
        signature = self.signature(inputs)
        ins, outs = self.spread(inputs)

        def leaves(*given):
            return self.flat(*given)[0]

        leaves.__name__ = self.name
        jitted = jax.jit(
            leaves, in_shardings=ins, out_shardings=list(outs), donate_argnums=self.donated
        )
        compiled = jitted.lower(*inputs).compile()
        cost = compiled.cost_analysis() or {}
        sizes = [nbytes(shape) for shape in signature.outputs]
        copies = [
            self.slice.size * nbytes(Shape(s.shard_shape(o.shape), o.dtype))
            for s, o in zip(outs, signature.outputs, strict=True)
        ]
        plain = [n for n, o in enumerate(signature.outputs) if not is_keys(o)]
        watched = min(plain, key=sizes.__getitem__, default=-1)
        gang = self.slice.size > 1
        return Executable(compiled, ins, outs, watched, sum(copies), gang, dict(cost))


class Computation:
    """A function on a slice. Called in a program it becomes a node; else it runs as one.

    Attributes:
        fn: a function of pytrees of arrays that `jax.jit` can compile.
        slice: where it runs.
        name: in programs, errors and traces.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        part: Slice,
        *,
        name: str | None = None,
        donate: tuple[int, ...] = (),
        in_specs: Any = None,
        out_specs: Any = None,
    ):
        self.fn, self.slice = fn, part
        self.name = name or getattr(fn, "__name__", type(fn).__name__)
        self.donate, self.in_specs, self.out_specs = tuple(donate), in_specs, out_specs
        self._flats: dict[Any, FlatComputation] = {}

    def __call__(self, *args: Any) -> Any:
        """Adds a node to the program that is being traced; outside one, runs by itself.

        Returns:
            the function's result with a leaf for each array: futures, or places in the graph.

        Raises:
            ProgramError: the arguments do not fit, or are no arrays.
        """
        current = builder()
        if current is not None:
            return current.call(self, args)
        from .programs import Program

        if not hasattr(self, "_alone"):
            self._alone = Program(lambda *given: self(*given), name=self.name)
        return self._alone(*args)

    def flat(self, args: tuple[Any, ...]) -> tuple[FlatComputation, list[Any]]:
        """The function for this structure of arguments, and their leaves."""
        leaves, tree = jax.tree.flatten(args)
        found = self._flats.get(tree)
        if found is None:
            counts = [len(jax.tree.leaves(arg)) for arg in args]
            outside = [n for n in self.donate if not 0 <= n < len(args)]
            if outside:
                raise ProgramError(
                    f"{self.name!r} donates argument {outside[0]}, and was given {len(args)}"
                )
            starts = [sum(counts[:n]) for n in range(len(counts))]
            donated = tuple(
                place
                for n in sorted(self.donate)
                for place in range(starts[n], starts[n] + counts[n])
            )
            specs = _spread(self.in_specs, tree, f"in_specs of {self.name!r}")
            found = self._flats.setdefault(
                tree,
                FlatComputation(
                    self.name, self.fn, self.slice, tree, specs, self.out_specs, donated
                ),
            )
        return found, leaves

    def lower(self, *args: Any) -> tuple[FlatComputation, Executable]:
        """Compiles ahead for arguments of these shapes (arrays or `jax.ShapeDtypeStruct`s)."""
        flat, leaves = self.flat(args)
        return flat, flat.executable(tuple(shape_of(leaf, self.name) for leaf in leaves))

    @property
    def compiled(self) -> int:
        """How many executables there are, of all shapes, for where the slice stands."""
        return sum(flat.compiled for flat in self._flats.values())

    def __repr__(self) -> str:
        return f"Computation({self.name!r} on {self.slice!r})"


def computation(
    fn: Callable[..., Any] | None = None,
    slice: Slice | None = None,
    *,
    name: str | None = None,
    donate: tuple[int, ...] = (),
    in_specs: Any = None,
    out_specs: Any = None,
) -> Any:
    """Places a function on a slice; also a decorator, `@computation(slice=…)`.

    Args:
        fn: of pytrees of arrays.
        slice: where it runs.
        name: by default the function's.
        donate: arguments whose buffers it takes over, by position.
        in_specs: a `PartitionSpec`, or a prefix tree of them for the tuple of arguments, over the
            axes of the slice's mesh; None is replicated.
        out_specs: the same of the result.

    Raises:
        ProgramError: no slice was given.
    """
    if slice is None:
        raise ProgramError("a computation needs a slice: take one of virtual_devices().add_slice")
    if fn is None:
        return lambda wrapped: Computation(
            wrapped, slice, name=name, donate=donate, in_specs=in_specs, out_specs=out_specs
        )
    return Computation(fn, slice, name=name, donate=donate, in_specs=in_specs, out_specs=out_specs)


def _spread(specs: Any, tree: Any, what: str) -> tuple[PartitionSpec | None, ...]:
    """A prefix tree of specs as one for each leaf."""
    if specs is None or isinstance(specs, PartitionSpec):
        return (specs,) * tree.num_leaves
    try:
        whole = jax.tree.broadcast(
            specs,
            jax.tree.unflatten(tree, range(tree.num_leaves)),
            is_leaf=lambda x: x is None or isinstance(x, PartitionSpec),
        )
    except ValueError as error:
        raise ProgramError(f"{what} are no prefix of the structure {tree}: {error}") from error
    return tuple(
        jax.tree.leaves(whole, is_leaf=lambda x: x is None or isinstance(x, PartitionSpec))
    )


def _key(inputs: tuple[Shape, ...]) -> tuple:
    return tuple([(shape.shape, shape.dtype) for shape in inputs])


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
