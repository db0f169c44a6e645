"""Shapes and dtypes of what a caller passes, as the devices will hold it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .errors import ProgramError
from .graph import OPAQUE, Shape


def shape_of(leaf: Any, where: str) -> Shape:
    """Shape and dtype of an array, a number, a future or a place in a graph.

    Raises:
        ProgramError: it is none of them.
    """
    if hasattr(leaf, "fetch"):  # the parameters of a switch's branches
        return OPAQUE
    kind = getattr(leaf, "dtype", None)
    if kind is not None and hasattr(leaf, "shape"):
        if kind != jax.dtypes.float0 and not jnp.issubdtype(kind, jax.dtypes.extended):
            kind = jax.dtypes.canonicalize_dtype(kind)
        return Shape(tuple(leaf.shape), kind)
    if isinstance(leaf, (bool, int, float, complex, np.generic)):
        return Shape((), jnp.result_type(leaf))
    raise ProgramError(
        f"{where} was given {leaf!r} of type {type(leaf).__name__}: arguments are arrays and "
        "numbers; let the function close over anything else"
    )
