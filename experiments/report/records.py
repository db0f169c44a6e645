"""What a run folder holds, read for the report: whatever is missing stays None."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..config import Experiment
from ..metrics_log import read_lines
from ..run_folder import RunFolder
from .blocks import routers


@dataclasses.dataclass(frozen=True)
class Records:
    """The files of a run.

    Attributes:
        path: the folder.
        name: its name.
        preset: that it was started from.
        config: of the run.
        finished: training reached its last step.
        lines: of `metrics.jsonl`, in order; empty where there is no such file.
        results: `results.json`, or None.
        predictions: `predictions.json`, or None.
        start: the latest entry of `provenance.json`; empty where there is none.
        notes: files that are there and cannot be read, a sentence each.
    """

    path: Path
    name: str
    preset: str
    config: Experiment
    finished: bool
    lines: tuple[dict[str, Any], ...]
    results: dict[str, Any] | None
    predictions: dict[str, Any] | None
    start: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def step(self) -> int:
        """The last step that was logged."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def dense(self) -> bool:
        """Whether the model has no sparse block."""
        return not self.config.model.moe_layers

    @property
    def routed(self) -> bool:
        """Whether tokens go to some experts and not to others; in soft routing all go to all."""
        return any(moe.router != "soft" for moe in routers(self.config).values())


def read_records(folder: Path | str) -> Records:
    """Reads a run folder; needs no lock, so a run that is still training may be read.

    Raises:
        RunError: not a run folder, or one whose config cannot be read.
    """
    run = RunFolder(folder)
    config, preset = run.read()
    notes: list[str] = []
    starts = (_read(run.provenance_file, notes) or {}).get("starts") or [{}]
    lines = _lines(run.metrics_file, notes)
    return Records(
        path=run.path,
        name=run.path.resolve().name,
        preset=preset,
        config=config,
        finished=run.finished,
        lines=tuple(lines),
        results=_read(run.results_file, notes),
        predictions=_read(run.path / "predictions.json", notes),
        start=starts[-1],
        notes=tuple(notes),
    )


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = read_lines(path)
    whole = sum(1 for text in path.read_text(errors="replace").splitlines() if text.strip())
    # The very last line may be torn by a kill, or being written now.
    if whole - len(lines) > 1:
        notes.append(
            f"{path.name} is damaged at line {len(lines) + 1} of {whole}; what follows was left "
            "out of this page."
        )
    return lines


def _read(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """A JSON object, or None with a note where a file is there and holds none."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} cannot be read ({error}); it was left out of this page.")
        return None
    if not isinstance(data, dict):
        notes.append(f"{path.name} holds no JSON object; it was left out of this page.")
        return None
    return data
