"""What stands between the two layers of an MLP: the forms of GELU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
from jaxtyping import Array, Float

ActivationName = Literal["gelu_tanh", "gelu", "quick_gelu"]


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """GELU by its tanh approximation, as in ViT and V-MoE."""
    return jax.nn.gelu(x, approximate=True)


def exact_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x·Φ(x), by the error function."""
    return jax.nn.gelu(x, approximate=False)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x·σ(1.702 x), as in OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[ActivationName, Callable[[Array], Array]] = {
    "gelu_tanh": gelu,
    "gelu": exact_gelu,
    "quick_gelu": quick_gelu,
}
