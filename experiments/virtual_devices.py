"""Virtual devices of the CPU, which JAX only makes if it is told before it is imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_FLAG = "--xla_force_host_platform_device_count"


def environment_with_devices(environment: dict[str, str], devices: int) -> dict[str, str] | None:
    """The environment to start again with, or None where it asks for devices already."""
    flags = environment.get("XLA_FLAGS", "")
    if _FLAG in flags:
        return None
    return environment | {"XLA_FLAGS": f"{flags} {_FLAG}={devices}".strip()}


def restart_with_devices(devices: int) -> None:
    """Replaces this process by the same command with so many CPU devices, once; else returns.

    Only where the process is the `byways` command and has not imported JAX yet, as in
    `huge_pages`. On an accelerator the flag changes nothing.
    """
    name = Path(sys.argv[0])
    ours = name.name == "byways" or name.parts[-2:] == ("byways", "__main__.py")
    if not ours or "jax" in sys.modules:
        return
    environment = environment_with_devices(dict(os.environ), devices)
    if environment is not None:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)
