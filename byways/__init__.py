"""Byways: sparse mixture-of-experts models over images and text, in JAX.

The rooms are subpackages: `byways.routing` (who goes where), `byways.models`,
`byways.datasets` and `byways.experiments`. Importing this package imports none of
them, nor JAX: names are looked up when they are first used (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .experiments import Run as Run
    from .experiments import load as load

__version__ = "0.1.0"

_LAZY = {"load": "byways.experiments", "Run": "byways.experiments"}

__all__ = ["Run", "__version__", "load"]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'byways' has no attribute {name!r}")
