"""Trained models at work over islands: text for many at once, and embeddings of folders.

Names load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine as Engine
    from .errors import RequestCancelled as RequestCancelled
    from .errors import ServingError as ServingError
    from .generation import Generation as Generation
    from .generation import Wanted as Wanted
    from .statistics import Statistics as Statistics

_FILES = {
    "Engine": "engine",
    "Generation": "generation",
    "RequestCancelled": "errors",
    "ServingError": "errors",
    "Statistics": "statistics",
    "Wanted": "generation",
}

__all__ = sorted(_FILES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_FILES[name]}", __name__), name)


def __dir__() -> list[str]:
    return list(__all__)
