"""Where a run came from: versions, source, devices, command."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "byways",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorstore",
    "grain",
    "array-record",
    "tensorflow-datasets",
    "sentencepiece",
    "numpy",
    "pillow",
    "tyro",
    "rich",
    "tensorboardX",
)


def versions() -> dict[str, str]:
    """Versions of Python and of every package that a run's numbers can depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def source() -> dict[str, Any]:
    """The git commit of this checkout and whether it was changed; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        # An installed wheel may lie inside somebody else's checkout.
        return {"commit": None, "dirty": None}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def devices() -> list[str]:
    """The local JAX devices, by kind; imports JAX."""
    import jax

    return [f"{device.platform}:{device.id} {device.device_kind}" for device in jax.devices()]


def started(seed: int, resumed_at: int | None = None) -> dict[str, Any]:
    """One start of a run: when, from which command, on what. Imports JAX for the devices.

    Args:
        seed: the run's seed.
        resumed_at: the step of the checkpoint that it goes on from; None is the beginning.
    """
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "resumed_at": resumed_at,
        "command": sys.argv,
        "seed": seed,
        "versions": versions(),
        "git": source(),
        "devices": devices(),
        "platform": platform.platform(),
    }


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
