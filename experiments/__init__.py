"""Experiments: configs and presets, the trainer, evaluation, reports, the command.

A lazy face: names are looked up when first used, so that `byways --help` imports no JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints import Checkpoints as Checkpoints
    from .checkpoints import Restored as Restored
    from .class_pathways import export_class_pathway as export_class_pathway
    from .compilation_cache import enable_compilation_cache as enable_compilation_cache
    from .config import ExperimentConfig as ExperimentConfig
    from .config_files import from_dict as from_dict
    from .config_files import to_dict as to_dict
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import ExperimentError as ExperimentError
    from .errors import Interrupted as Interrupted
    from .errors import RunError as RunError
    from .errors import UsageError as UsageError
    from .evaluation import evaluate_run as evaluate_run
    from .export import export_run as export_run
    from .library import Run as Run
    from .library import load as load
    from .metrics_log import MetricsLog as MetricsLog
    from .pathway_report import PathwayReport as PathwayReport
    from .pathways import export_pathway as export_pathway
    from .presets import PRESETS as PRESETS
    from .presets import preset as preset
    from .report import write_report as write_report
    from .run_folder import RunFolder as RunFolder
    from .validate import check as check

_HOMES = {
    "Checkpoints": "checkpoints",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "ExperimentConfig": "config",
    "ExperimentError": "errors",
    "Interrupted": "errors",
    "MetricsLog": "metrics_log",
    "PathwayReport": "pathway_report",
    "PRESETS": "presets",
    "Restored": "checkpoints",
    "Run": "library",
    "RunError": "errors",
    "RunFolder": "run_folder",
    "UsageError": "errors",
    "check": "validate",
    "enable_compilation_cache": "compilation_cache",
    "evaluate_run": "evaluation",
    "export_class_pathway": "class_pathways",
    "export_pathway": "pathways",
    "export_run": "export",
    "from_dict": "config_files",
    "load": "library",
    "preset": "presets",
    "to_dict": "config_files",
    "write_report": "report",
}

__all__ = [
    "PRESETS",
    "CheckpointError",
    "Checkpoints",
    "ConfigError",
    "ExperimentConfig",
    "ExperimentError",
    "Interrupted",
    "MetricsLog",
    "PathwayReport",
    "Restored",
    "Run",
    "RunError",
    "RunFolder",
    "UsageError",
    "check",
    "enable_compilation_cache",
    "evaluate_run",
    "export_class_pathway",
    "export_pathway",
    "export_run",
    "from_dict",
    "load",
    "preset",
    "to_dict",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
