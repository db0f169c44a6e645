"""A look for NaNs and infinities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def not_finite(arrays: Sequence[Any]) -> int | None:
    """Number of the first array that holds a NaN or an infinity; waits for them."""
    for number, array in enumerate(arrays):
        if jnp.issubdtype(array.dtype, jnp.inexact) and not bool(_all_finite(array)):
            return number
    return None


@jax.jit
def _all_finite(array: Any) -> Any:
    return jnp.isfinite(array).all()
