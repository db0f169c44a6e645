"""The forms of GELU."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from ..routing import gelu
from .config import Activation


def exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x·Φ(x), by the error function."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x·σ(1.702 x), as in OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "gelu_tanh": gelu,
    "gelu": exact_gelu,
    "quick_gelu": quick_gelu,
}
