"""A plain residual MLP in stages: a model for benchmarks that one line of JAX can write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Params = list[dict[str, jax.Array]]


def layers(count: int, width: int) -> Params:
    """Parameters of residual layers of width D and hidden width 4*D, float32."""
    keys = jax.random.split(jax.random.key(0), 2 * count)
    scale = width**-0.5
    return [
        {
            "up": scale * jax.random.normal(keys[2 * n], (width, 4 * width)),
            "down": 0.5 * scale * jax.random.normal(keys[2 * n + 1], (4 * width, width)),
        }
        for n in range(count)
    ]


def stage(params: Params, x: jax.Array) -> jax.Array:
    """(B, D) -> (B, D) through its layers."""
    for layer in params:
        x = x + jax.nn.gelu(x @ layer["up"]) @ layer["down"]
    return x


def squared_error(y: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over examples and features."""
    return jnp.mean((y - targets) ** 2)


def batch_of(size: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Inputs and targets, (B, D) each."""
    inputs, targets = jax.random.split(jax.random.key(1))
    return jax.random.normal(inputs, (size, width)), jax.random.normal(targets, (size, width))


def whole_loss(remat: bool) -> Callable[..., jax.Array]:
    """Of all stages in one function: (params of the stages, inputs, targets) to the loss."""
    each: Any = jax.checkpoint(stage) if remat else stage

    def loss(params: tuple[Params, ...], inputs: jax.Array, targets: jax.Array) -> jax.Array:
        x = inputs
        for one in params:
            x = each(one, x)
        return squared_error(x, targets)

    return loss
