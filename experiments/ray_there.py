"""Whether Ray is installed, for commands that start islands. Imports neither JAX nor Ray."""

from __future__ import annotations

import importlib.util

from .errors import RunError


def check_ray(instead: str) -> None:
    """Before anything is loaded.

    Args:
        instead: what the command's user may do without Ray.

    Raises:
        RunError: it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise RunError(
            "islands in other processes need Ray, which is not installed: pip install "
            f"'byways[ray]', or {instead}"
        )
