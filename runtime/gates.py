"""`gate`: work over rows of which only the first `count` are real, and often none is.

The embedding of a modality that a batch does not have, the head of a task that nobody asked for:
with no rows it is not dispatched, moved or differentiated; with some it runs over a bucket of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .buckets import ladder
from .conditional import Backward, Conditional, Given, Wake
from .errors import ProgramError
from .graph import OPAQUE, Shape
from .resources import Slice
from .tracing import builder
from .waking import Executables


@dataclasses.dataclass(frozen=True)
class _Kept:
    """How many rows were real."""

    count: int
    nbytes: int = 0


class Gate:
    """A function over rows, for those that are there. Called in a program it is one node.

    Attributes:
        fn: (rows (N, …), operands) -> (N, …), row by row.
        slice: where.
        name: in programs, errors and traces.
        compiled: how many executables there are.
    """

    def __init__(self, fn: Callable[[Any, Any], Any], part: Slice, *, name: str | None = None):
        self.fn, self.slice = fn, part
        self.name = name or getattr(fn, "__name__", "gate")
        self._nodes = Executables(self.name, [part])
        self._overs: dict[Any, _Over] = {}

    @property
    def compiled(self) -> int:
        return len(self._nodes)

    def __call__(self, count: Any, rows: Any, operands: Any) -> Any:
        """In a program.

        Args:
            count: scalar integer, how many rows are real: the first ones.
            rows: (N, …).
            operands: a tree of arrays, such as parameters.

        Returns:
            (N, …); zero for rows that are not real.

        Raises:
            ProgramError: outside a program; shapes that do not fit.
        """
        made = builder()
        if made is None:
            raise ProgramError(f"gate {self.name!r} exists only in a program: decorate its caller")
        leaves, tree = jax.tree.flatten(operands)
        places = [made.place(leaf, self.name) for leaf in (count, rows, *leaves)]
        shapes = tuple(Shape(place.shape, place.dtype) for place in places)
        key = (tree, tuple((s.shape, s.dtype) for s in shapes))
        if key not in self._overs:
            if shapes[0].shape or shapes[0].dtype.kind not in "iu":
                raise ProgramError(
                    f"gate {self.name!r} was given a count {shapes[0].dtype}"
                    f"{list(shapes[0].shape)}: pass an integer"
                )
            self._overs[key] = _Over(self, self._nodes, tree, shapes[1:])
        over = self._overs[key]
        return made.conditional(over.conditional, self.slice, places, [over.out])[0]


class _Over:
    """A gate over rows and operands of one shape."""

    def __init__(self, owner: Gate, nodes: Executables, tree: Any, shapes: tuple[Shape, ...]):
        self.owner, self.nodes, self.tree, self.shapes = owner, nodes, tree, shapes
        self.rows = shapes[0].shape[0] if shapes[0].shape else 0
        self.ladder = ladder(self.rows)
        try:
            out = jax.eval_shape(self._over(self.rows), *shapes)
        except Exception as error:
            raise ProgramError(
                f"gate {owner.name!r} does not take such rows and operands: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        self.out = Shape(out.shape, out.dtype)
        # By position among (rows, *operands).
        self.moving = [n for n, s in enumerate(shapes) if jnp.issubdtype(s.dtype, jnp.inexact)]
        self.conditional = Conditional(owner.name, 1, self.infer, self, self.compile)
        self.keeping = Conditional(owner.name, 1, self.keep, None, self.compile)
        self.backwards = Conditional(f"{owner.name} backward", 0, self.back, None, self.compile)

    def forward_keeping(self) -> tuple[Conditional, list[Shape]]:
        return self.keeping, [self.out, OPAQUE]

    def differentiated(self) -> Backward:
        takes = tuple(range(1, 1 + len(self.shapes)))
        outputs = [self.shapes[n] for n in self.moving]
        return Backward(self.backwards, takes, outputs, tuple(Given(1 + n) for n in self.moving))

    # Expansions.

    def infer(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        count = int(read[0])
        if not 0 <= count <= self.rows:
            raise ValueError(f"a count of {count}, and there are {self.rows} rows")
        if not count:
            return self._wake(wake, "zeros", 0, [])
        return self._wake(wake, "forward", self.ladder(count), [np.int32(count), *inputs])

    def keep(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        return [*self.infer(wake, read, inputs), _Kept(int(read[0]))]

    def back(self, wake: Wake, read: list[np.ndarray], inputs: list[Any]) -> list[Any]:
        kept, *given, grad = inputs
        if not kept.count:
            return self._wake(wake, "no gradients", 0, [])
        bucket = self.ladder(kept.count)
        return self._wake(wake, "backward", bucket, [np.int32(kept.count), *given, grad])

    # Nodes.

    def _wake(self, wake: Wake, kind: str, bucket: int, leaves: Sequence[Any]) -> list[Any]:
        name = f"{self.owner.name} {kind}" + (f" of {bucket}" if bucket else "")
        return wake.call(self._executable(kind, bucket), leaves, self.owner.slice, name)

    def _executable(self, kind: str, bucket: int) -> Any:
        count = Shape((), np.dtype(np.int32))
        arguments = {
            "zeros": (),
            "no gradients": (),
            "forward": (count, *self.shapes),
            "backward": (count, *self.shapes, self.out),
        }[kind]
        key = (kind, bucket, self.tree, tuple((s.shape, s.dtype) for s in self.shapes))
        return self.nodes.get(key, 0, lambda: self._function(kind, bucket), lambda: arguments, ())

    def _function(self, kind: str, bucket: int) -> Callable[..., Any]:
        if kind == "zeros":
            return lambda: jnp.zeros(self.out.shape, self.out.dtype)
        if kind == "no gradients":
            return lambda: [
                jnp.zeros(self.shapes[n].shape, self.shapes[n].dtype) for n in self.moving
            ]
        run = self._over(bucket)

        def forward(count: Any, *given: Any) -> Any:
            out = run(*given)
            return jnp.where(_along(jnp.arange(self.rows) < count, out), out, 0)

        def backward(count: Any, *given_and_grad: Any) -> list[Any]:
            *given, grad = given_and_grad

            def moved(*some: Any) -> Any:
                whole = list(given)
                for n, x in zip(self.moving, some, strict=True):
                    whole[n] = x
                return forward(count, *whole)

            _, pull = jax.vjp(moved, *[given[n] for n in self.moving])
            return list(pull(grad))

        return forward if kind == "forward" else backward

    def _over(self, bucket: int) -> Callable[..., Any]:
        """The function of a bucket of rows, as long as all of them."""

        def over(rows: Any, *leaves: Any) -> Any:
            out = self.owner.fn(rows[:bucket], jax.tree.unflatten(self.tree, leaves))
            rest = self.rows - bucket
            return jnp.pad(out, [(0, rest)] + [(0, 0)] * (out.ndim - 1)) if rest else out

        return over

    def compile(self) -> None:
        """Compiles all that can wake."""
        for kind in ("zeros", "no gradients"):
            self._executable(kind, 0)
        for bucket in self.ladder.rungs:
            for kind in ("forward", "backward"):
                self._executable(kind, bucket)


def _along(mask: Any, like: Any) -> Any:
    return mask.reshape(mask.shape[0], *(1,) * (like.ndim - 1))
