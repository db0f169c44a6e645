"""The runs that are to be compared, read from their folders."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..config import ContrastiveConfig, Experiment, kind_of
from ..errors import RunError, UsageError
from ..metrics_log import read_lines
from ..run_folder import RunFolder
from ..sweep.plan_file import recorded_hashes
from .curves import Curve, curve_of, effort_of, training_key, validation_key

# What a shell's `SWEEP/*` names besides runs.
_SWEEPS_OWN = ("plan.json", "failures", "outputs")


@dataclasses.dataclass(frozen=True)
class ReadRun:
    """One run.

    Attributes:
        path: its folder, as it was named.
        preset: that it was started from.
        config: of the run.
        finished: training reached its last step.
        lines: of `metrics.jsonl`.
        results: `results.json` of its last step; None where it is not finished, or has none.
        notes: what is wanting, a sentence each.
    """

    path: Path
    preset: str
    config: Experiment
    finished: bool
    lines: tuple[dict[str, Any], ...]
    results: dict[str, Any] | None
    notes: tuple[str, ...]

    @property
    def seed(self) -> int:
        """Of its config."""
        return self.config.seed

    @property
    def family(self) -> str:
        """What it is scored as: one tower or two, pairs have the same scores."""
        return "contrastive" if isinstance(self.config, ContrastiveConfig) else kind_of(self.config)

    @property
    def step(self) -> int:
        """The last that was logged."""
        return max((line["step"] for line in self.lines), default=0)

    def curves(self) -> tuple[Curve, Curve]:
        """Its validation and its training curve. Imports JAX."""
        effort = effort_of(self.lines, self.config)
        return (
            curve_of(self.lines, effort, validation_key(self.config), "validation"),
            curve_of(self.lines, effort, training_key(self.config), "train"),
        )


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The run folders among `paths`; of a folder of runs, as a sweep's is, those in it.

    Raises:
        UsageError: none is named, or one is named twice.
        RunError: a path that is no run and holds none.
    """
    if not paths:
        raise UsageError("name a run's folder, or a folder of runs: byways compare RUN …")
    found: list[Path] = []
    for path in paths:
        if (path / "config.json").is_file():
            found.append(path)
            continue
        if path.name in _SWEEPS_OWN and (path.parent / "plan.json").is_file():
            continue
        inside = _inside(path)
        if not inside:
            here = "is a file" if path.is_file() else "does not exist"
            here = "holds no run" if path.is_dir() else here
            raise RunError(
                f"{path} is neither a run nor a folder of runs: it {here}; `byways train PRESET "
                "--run DIR` makes a run, `byways sweep` many"
            )
        found += inside
    if not found:
        raise RunError(f"{paths[0]} is a sweep's own, and no run; name {paths[0].parent}")
    seen: dict[Path, Path] = {}
    for path in found:
        first = seen.setdefault(path.resolve(), path)
        if first is not path:
            raise UsageError(f"{path} is named twice (as {first}); name each run once")
    return found


def unbegun(paths: Iterable[Path]) -> list[str]:
    """A sentence on each sweep's folder whose plan names runs that have no folder yet."""
    notes = []
    for path in paths:
        names = [name for name in recorded_hashes(path) if not (path / name).is_dir()]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            notes.append(
                f"{path} has {len(names)} runs that have not begun: {', '.join(names[:3])}{more}"
            )
    return notes


def read_runs(paths: Iterable[Path]) -> list[ReadRun]:
    """Reads runs that can be compared.

    Raises:
        RunError: one is no run folder, two have one config and seed, or kinds are mixed.
    """
    runs = [_read(path) for path in paths]
    kinds = {run.family: run.path for run in reversed(runs)}
    if len(kinds) > 1:
        named = ", ".join(f"{path} is of kind {kind}" for kind, path in kinds.items())
        raise RunError(
            f"runs of different kinds have no score in common: {named}; compare one kind"
        )
    return runs


def natural(name: str) -> list[Any]:
    """Sorts numbers in names by their size.

    Examples:
        >>> sorted(["e-16", "e-8", "e"], key=natural)
        ['e', 'e-8', 'e-16']
    """
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part]


def _inside(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [
        item
        for item in folder.iterdir()
        if item.name[0] != "." and (item / "config.json").is_file() and not _is_model(item)
    ]
    # A sweep's own order, whose first group is what others are held against.
    planned = {name: place for place, name in enumerate(recorded_hashes(folder))}
    last = len(planned)
    return sorted(found, key=lambda item: (planned.get(item.name, last), natural(item.name)))


def _is_model(folder: Path) -> bool:
    """A model's folder, as exporting and upcycling make, is no run."""
    try:
        return "model" in json.loads((folder / "config.json").read_text())
    except (OSError, ValueError, TypeError):
        return False


def _read(path: Path) -> ReadRun:
    run = RunFolder(path)
    config, preset = run.read()
    notes: list[str] = []
    lines = _lines(run.metrics_file, notes)
    drawn = {training_key(config), validation_key(config)}
    lost = [line["step"] for line in lines if any(line["metrics"].get(k, 0) is None for k in drawn)]
    if lost:
        notes.append(f"{path} logged no finite value at step {lost[0]}: its curve has a gap there")
    finished, results = run.finished, None
    if not finished:
        step = max((line["step"] for line in lines), default=0)
        notes.append(
            f"{path} is not finished (step {step} of {config.steps}): it has a curve, no score"
        )
    else:
        results = _results(run, config, notes)
    return ReadRun(path, preset, config, finished, tuple(lines), results, tuple(notes))


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        notes.append(f"{path} is missing: no curve, and no speed")
        return []
    try:
        lines = read_lines(path)
        whole = sum(1 for text in path.read_text(errors="replace").splitlines() if text.strip())
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read ({error}): no curve, and no speed")
        return []
    # The very last line may be torn by a kill; anything else is damage.
    if whole - len(lines) > 1:
        notes.append(
            f"{path} is damaged at line {len(lines) + 1} of {whole}: what follows was left out"
        )
    return lines


def _results(run: RunFolder, config: Experiment, notes: list[str]) -> dict[str, Any] | None:
    path, again = run.results_file, f"`byways evaluate {run.path}` writes it"
    if not path.is_file():
        notes.append(f"{run.path} has no scores: `byways evaluate {run.path}` gives it some")
        return None
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        notes.append(f"{path} cannot be read ({error}): {again} again")
        return None
    if not isinstance(found, dict):
        notes.append(f"{path} holds no JSON object: {again} again")
        return None
    if found.get("step") != config.steps:
        notes.append(
            f"{path} is of step {found.get('step')}, and the run has {config.steps}: {again} again"
        )
        return None
    return found
