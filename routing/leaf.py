"""The type of a leaf of our pytrees.

To a type checker an `Array`. At run time anything: JAX rebuilds pytrees with host arrays,
shapes, shardings and stacked or sliced arrays in the place of the leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Optional as OptionalBranch

    from jaxtyping import Array as Leaf
else:
    Leaf = object

    class OptionalBranch:
        """A part of a pytree or None; anything at run time, as Orbax takes None for a leaf."""

        def __class_getitem__(cls, _):
            return object


__all__ = ["Leaf", "OptionalBranch"]
