"""Work of a length that can be chosen: a loop of matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def products(length: int) -> Callable[[jax.Array], jax.Array]:
    """x (D, D) -> (D, D), multiplied by itself scaled `length` times, each waiting for the last."""

    def loop(x):
        scale = 1 / x.shape[0]
        return jax.lax.fori_loop(0, length, lambda _, y: jnp.tanh(y @ x) * scale + x, x)

    return loop


def matrix(width: int, device: Any) -> jax.Array:
    """(D, D) float32, on a device."""
    x = jax.random.normal(jax.random.key(0), (width, width)) / width**0.5
    return jax.device_put(x, device)


def length_of(milliseconds: float, width: int, device: Any) -> int:
    """How long a loop takes about so many milliseconds on this machine."""
    x = matrix(width, device)
    length = 1
    while True:
        call = jax.jit(products(length))
        took = min(_seconds(call, x) for _ in range(20)) * 1e3
        if took >= milliseconds or length >= 1 << 20:
            return max(1, round(length * milliseconds / took))
        length = max(length + 1, min(length * 8, round(1.2 * length * milliseconds / took)))


def _seconds(call: Callable, x: jax.Array) -> float:
    jax.block_until_ready(call(x))
    begin = time.perf_counter()
    jax.block_until_ready(call(x))
    return time.perf_counter() - begin
