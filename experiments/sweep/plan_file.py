"""A plan as a file, which a process that trains one of its runs reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import KINDS, kind_of
from ..config_files import from_dict, to_dict
from ..errors import RunError
from ..files import write_json
from .plan import Plan, PlannedRun

FORMAT = 1
NAME = "plan.json"


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as nested dictionaries; its folder is where the file lies, and is not in it."""
    return {
        "format": FORMAT,
        "name": plan.name,
        "runs": [
            {
                "name": run.name,
                "hash": plan.hash_of(run.name),
                "preset": run.preset,
                "begins_with": run.begins_with,
                "upcycled": run.upcycled,
                "kind": kind_of(run.config),
                "config": to_dict(run.config),
            }
            for run in plan.runs
        ],
    }


def write_plan(plan: Plan) -> Path:
    """Writes `plan.json` into the plan's folder, whole, unless it is there as it would be."""
    path, data = plan.folder / NAME, plan_to_dict(plan)
    if not path.is_file() or _read(path) != json.loads(json.dumps(data)):
        write_json(path, data)
    return path


def read_plan(path: Path) -> Plan:
    """The plan of a `plan.json`.

    Raises:
        RunError: it is missing, damaged or of another format.
        ConfigError: it names keys that this version does not know.
    """
    data = _read(path)
    if data is None or data.get("format") != FORMAT:
        raise RunError(
            f"{path} is no plan of format {FORMAT}; `byways sweep` of the same file writes it again"
        )
    try:
        runs = tuple(
            PlannedRun(
                found["name"],
                from_dict(found["config"], KINDS[found["kind"]]),
                found["preset"],
                found["begins_with"],
                found["upcycled"],
            )
            for found in data["runs"]
        )
    except (KeyError, TypeError) as error:
        raise RunError(
            f"{path} is damaged ({error!r}); `byways sweep` of the same file writes it again"
        ) from error
    return Plan(data["name"], path.parent, runs)


def recorded_hashes(folder: Path) -> dict[str, str]:
    """Each run's hash in the `plan.json` of a folder; empty where there is none to read."""
    data = _read(folder / NAME) or {}
    try:
        return {str(run["name"]): str(run["hash"]) for run in data.get("runs", [])}
    except (KeyError, TypeError):
        return {}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
