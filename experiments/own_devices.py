"""Devices of this process for `--cluster local` to make islands of; without JAX until then."""

from __future__ import annotations

import contextlib
import os


def have_devices(count: int) -> None:
    """So many of the CPU, unless JAX has begun, or was told how many by XLA_FLAGS."""
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        import jax

        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)
