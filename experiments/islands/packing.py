"""Trees of arrays as few flat ones: what goes between islands is a message of one or two arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

# By the name of the dtype, all leaves of that dtype one after the other.
Packed = dict[str, Array]


class Packing:
    """How the leaves of trees of one structure lie in flat arrays; bit for bit both ways.

    Examples:
        >>> tree = {"a": jnp.ones((2, 3)), "b": jnp.arange(2), "c": jnp.zeros(())}
        >>> packing = Packing(tree)
        >>> {name: flat.shape for name, flat in packing.pack(tree).items()}
        {'float32': (7,), 'int32': (2,)}
        >>> packing.unpack(packing.pack(tree))["b"].tolist()
        [0, 1]
    """

    def __init__(self, shapes: Any):
        """Args:
        shapes: a tree of arrays or of `jax.ShapeDtypeStruct`s.
        """
        leaves, self._tree = jax.tree.flatten(shapes)
        self._shapes = [(leaf.shape, jnp.dtype(leaf.dtype).name) for leaf in leaves]

    @property
    def shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Of the leaves, in their order."""
        return [jax.ShapeDtypeStruct(shape, jnp.dtype(name)) for shape, name in self._shapes]

    def pack(self, tree: Any) -> Packed:
        """The leaves in flat arrays."""
        lines: dict[str, list[Array]] = {}
        for leaf, (_, name) in zip(jax.tree.leaves(tree), self._shapes, strict=True):
            lines.setdefault(name, []).append(jnp.ravel(leaf))
        return {name: jnp.concatenate(lines[name]) for name in sorted(lines)}

    def unpack(self, packed: Mapping[str, Array]) -> Any:
        """The inverse of `pack`."""
        return self.tree(self.leaves(packed))

    def tree(self, leaves: Sequence[Any]) -> Any:
        """Leaves in their tree."""
        return jax.tree.unflatten(self._tree, leaves)

    def leaves(self, packed: Mapping[str, Array]) -> list[Array]:
        """The leaves, in their order."""
        begins, leaves = dict.fromkeys(packed, 0), []
        for shape, name in self._shapes:
            begin = begins[name]
            begins[name] = end = begin + math.prod(shape)
            leaves.append(packed[name][begin:end].reshape(shape))
        return leaves


def packing_of(fn: Callable[..., Any], *args: Any) -> tuple[Packing, dict[str, Any]]:
    """The packing of what a function returns, and the shapes of that when it is packed."""
    found: list[Packing] = []

    def packed(*given: Any) -> Packed:
        # Asked for inside: some results cannot hold mere shapes.
        made = fn(*given)
        found.append(Packing(made))
        return found[-1].pack(made)

    shapes = jax.eval_shape(packed, *args)
    return found[-1], shapes


def differentiable(packed: Packed) -> tuple[Packed, Packed]:
    """Those that gradients flow through, and the others."""
    floats = {k: v for k, v in packed.items() if jnp.issubdtype(v.dtype, jnp.inexact)}
    return floats, {k: v for k, v in packed.items() if k not in floats}
