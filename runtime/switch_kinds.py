"""The kinds of nodes that a switch wakes: what each computes, and of what shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .graph import Shape
from .switch_nodes import (
    Branch,
    backward_beside,
    backward_over,
    forward_beside,
    forward_over,
)

# Of no branch; all others are, and take over their first argument.
ALONE = frozenset(["zeros", "zero rows", "copy", "copy grad"])


@dataclasses.dataclass(frozen=True)
class Pass:
    """What a way through a switch may wake.

    Attributes:
        alone: kinds of no branch.
        over: the kind of its nodes of branches where one buffer serves both ways.
        beside: the same where it does not.
    """

    alone: tuple[str, ...]
    over: str
    beside: str

    def grouped(self, alike: bool) -> str:
        """The kind of its nodes of branches."""
        return self.over if alike else self.beside


FORWARD = Pass(("copy", "zeros"), "over", "beside")
KEEPING = Pass(("zeros",), "keeping", "keeping")
BACKWARD = Pass(("copy grad", "zero rows"), "back over", "back beside")


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Of one switch over rows of one shape.

    Attributes:
        branch: what each branch does.
        params: shapes of one branch's parameters.
        save: keep what `Branch.forward` offers.
        rows: (R, …), what goes in.
        out: (R, …), what comes out.
    """

    branch: Branch
    params: Any
    save: bool
    rows: Shape
    out: Shape

    def function(self, kind: str, bucket: int, count: int) -> Callable[..., Any]:
        """What a node of this kind computes, for `count` branches over `bucket` rows each."""
        branch, out, rows = self.branch, self.out, self.rows
        if kind == "zeros":
            return lambda: jnp.zeros(out.shape, out.dtype)
        if kind == "zero rows":
            return lambda: jnp.zeros(rows.shape, rows.dtype)
        if kind in ("copy", "copy grad"):
            return jnp.copy
        if kind == "over":
            return forward_over(branch, bucket, count)
        if kind in ("beside", "keeping"):
            run = forward_beside(branch, bucket, count)
            if kind == "beside" or not self.save:
                return lambda *given: run(*given)[0]
            return run
        make = backward_over if kind == "back over" else backward_beside
        return make(branch, bucket, count)

    def arguments(self, kind: str, bucket: int, count: int) -> tuple[Any, ...]:
        """Shapes of its arguments."""
        if kind in ("zeros", "zero rows"):
            return ()
        if kind in ("copy", "copy grad"):
            return (self.rows if kind == "copy" else self.out,)
        spans, params = Shape((count, 2), np.int32), [self.params] * count
        if kind == "over":
            return self.rows, spans, params
        if kind in ("beside", "keeping"):
            return self.out, self.rows, spans, params
        some = Shape((bucket, *self.rows.shape[1:]), self.rows.dtype)
        kept = None
        if self.save:
            saved = jax.eval_shape(self.branch.forward, self.params, some)[1]
            kept = [saved] * count
        rest = (self.out, self.rows, kept, spans, params)
        return rest if kind == "back over" else (self.rows, *rest)
