"""A cluster that lives on without its clients: started, looked at, ended.

The face of `byways.experiments.cluster`; names are looked up when first used. None imports JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ending import end_cluster as end_cluster
    from .starting import start_cluster as start_cluster
    from .view import watch as watch

_HOMES = {"end_cluster": "ending", "start_cluster": "starting", "watch": "view"}

__all__ = ["end_cluster", "start_cluster", "watch"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
