"""What is measured of a trained run beyond its scores; a probe a file."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ...files import write_json
from ...run_folder import RunFolder

# Raised when a probe measures something else than before, so that kept numbers are made again.
VERSION = 1

# First word of its numbers' keys -> module, whose `probe(folder)` gives numbers by key.
PROBES: Mapping[str, str] = MappingProxyType(
    {
        "information": "information",
        "limits": "limits",
        "capacity": "capacity",
        "layers": "layers",
    }
)


def is_probed(key: str) -> bool:
    """Whether a number of that key is a probe's."""
    return key.split(".")[0] in PROBES


def probed(folder: Path, name: str) -> dict[str, float]:
    """A probe's numbers of a finished run, measured once and kept in its folder.

    Args:
        folder: the run folder.
        name: of `PROBES`.

    Raises:
        RunError, CheckpointError, RecordError: the run or its data cannot be read.
    """
    kept = folder / "probes" / f"{name}.json"
    step = RunFolder(folder).read()[0].steps
    found = _read(kept)
    if found is None or (found["version"], found["step"]) != (VERSION, step):
        module = importlib.import_module(f".{PROBES[name]}", __name__)
        probe: Callable[[Path], dict[str, float]] = module.probe
        numbers = {f"{name}.{key}": float(value) for key, value in probe(folder).items()}
        found = {"version": VERSION, "step": step, "numbers": numbers}
        kept.parent.mkdir(exist_ok=True)
        write_json(kept, found)
    return found["numbers"]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return (
        found if isinstance(found, dict) and {"version", "step", "numbers"} <= set(found) else None
    )
