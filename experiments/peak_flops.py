"""The most FLOP/s that devices can do: makers' figures for accelerators, measured on a CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Dense bfloat16 products of one device, from the makers' data sheets; the first part of JAX's
# `device_kind` that fits counts, so that the longer names come first.
PEAKS = {
    "TPU v2": 46e12,
    "TPU v3": 123e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6": 918e12,
    "NVIDIA V100": 125e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
}


def peak_flops(devices: Sequence[Any] | None = None) -> float | None:
    """FLOP/s of these devices together, in the type that training computes in.

    Virtual CPU devices share one CPU, which is measured once, by a large product.

    Args:
        devices: None takes all local ones.

    Returns:
        None for devices that the table does not know.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    if devices[0].platform == "cpu":
        return measured_peak()
    peak = table_peak(devices[0].device_kind)
    return None if peak is None else peak * len(devices)


def table_peak(kind: str) -> float | None:
    """FLOP/s of one device by its kind, as JAX names it; None for one that is not in the table.

    Examples:
        >>> table_peak("NVIDIA H100 80GB HBM3") == PEAKS["NVIDIA H100"]
        True
        >>> table_peak("TPU v5 lite") < table_peak("TPU v5p")
        True
    """
    return next((peak for name, peak in PEAKS.items() if kind.startswith(name)), None)


def measured_peak(size: int = 1024, seconds: float = 0.2) -> float:
    """FLOP/s of the best of some float32 products of two square matrices, on the default device.

    Args:
        size: rows.
        seconds: spent at most, after compiling.
    """
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.dot).lower(x, x).compile()
    jax.block_until_ready(product(x, x))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        jax.block_until_ready(product(x, x))
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best
