"""Work for one modality, marked in a program so that `lowering` can leave it out.

A batch may have no text at all, or no image. Compiled as it is, marked work runs all the same, and
what it made is zero. Lowered, it is a gate of the runtime: not dispatched, moved or differentiated
where nothing is there.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

_MARK = "byways_gate_"


def gated(name: str, there: Bool[Array, ""], module: nn.Module, rows: Array, *more: Array) -> Array:
    """`module(rows, *more)` if anything is there, else zeros.

    Args:
        name: in traces.
        there: whether any row counts.
        module: bound; its parameters become operands of the marked call.
        rows: (B, …).
        more: what else it takes.
    """
    if module.is_initializing():
        return module(rows, *more)  # pyright: ignore[reportCallIssue]
    free = module.clone(parent=None)
    params = module.variables.get("params", {})

    def run(count: Array, rows: Array, params: Any, more: tuple[Array, ...]) -> Array:
        out: Any = free.apply({"params": params}, rows, *more)
        return jnp.where(count > 0, out, 0)

    run.__name__ = run.__qualname__ = _MARK + name
    count = jnp.where(there, rows.shape[0], 0).astype(jnp.int32)
    return jax.jit(run)(count, rows, params, more)


def gate_name(name: str) -> str | None:
    """Of the work, where this is the name of a marked call in a program; or None.

    Its operands are the count, scalar int32, 0 or all rows; the rows; and anything.
    """
    return name.removeprefix(_MARK) if name.startswith(_MARK) else None
