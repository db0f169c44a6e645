"""A run as one self-contained HTML page: its scores, curves, experts and answers.

The face of `byways.experiments.report`; names are looked up when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pathway import Pathway as Pathway
    from .pathway import pathway_of as pathway_of
    from .writing import write_report as write_report

_HOMES = {"Pathway": "pathway", "pathway_of": "pathway", "write_report": "writing"}

__all__ = ["Pathway", "pathway_of", "write_report"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
