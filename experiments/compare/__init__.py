"""Runs beside each other: intervals over seeds, paired differences, learning curves.

The face of `byways.experiments.compare`; names are looked up when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .comparing import Comparison as Comparison
    from .comparing import compare_runs as compare_runs
    from .curves import Curve as Curve
    from .curves import read_curves as read_curves
    from .page import render as render
    from .statistics import Interval as Interval
    from .statistics import Paired as Paired
    from .statistics import mean_interval as mean_interval
    from .statistics import paired_difference as paired_difference
    from .statistics import welch_difference as welch_difference
    from .tables import markdown as markdown

_HOMES = {
    "Comparison": "comparing",
    "Curve": "curves",
    "Interval": "statistics",
    "Paired": "statistics",
    "compare_runs": "comparing",
    "markdown": "tables",
    "mean_interval": "statistics",
    "paired_difference": "statistics",
    "read_curves": "curves",
    "render": "page",
    "welch_difference": "statistics",
}

__all__ = [
    "Comparison",
    "Curve",
    "Interval",
    "Paired",
    "compare_runs",
    "markdown",
    "mean_interval",
    "paired_difference",
    "read_curves",
    "render",
    "welch_difference",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
