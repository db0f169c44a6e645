"""What `jax.shard_map` checks: over which mesh axes a value may differ between devices.

Inside it, replicated experts that meet sharded rows are cast by JAX wherever an operation of its
own takes both, and the transpose of that cast adds up their gradients. Loops and derivatives that
are written by hand get no such cast: what enters them is made alike here.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """The same pytrees, each leaf cast to vary over all axes that any of them varies over.

    Nothing is done outside `jax.shard_map`, nor under its `check_vma=False`.
    """
    axes = frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(trees)))
    if not axes:
        return trees

    def cast(leaf: Any) -> Any:
        missing = tuple(sorted(axes - _axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, trees)


def _axes(leaf: Any) -> frozenset[str]:
    """The axes of `jax.shard_map` over which this varies."""
    return jax.typeof(leaf).manual_axis_type.varying
