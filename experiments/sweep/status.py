"""What became of each run, read from its folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

from ..errors import RunError
from ..files import write_bytes, write_json
from ..run_folder import RunFolder
from .claim import is_claimed
from .plan import Plan, PlannedRun

State = Literal["waiting", "running", "interrupted", "failed", "trained", "done"]

# A line of metrics.jsonl is some KB; only its end is read, many times.
_TAIL = 1 << 18
# Dotted keys of results.json, the first that is there is shown.
_HEADLINES = ("noto.all.top1", "scores.top1", "validation.bits_per_byte")


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """One run now.

    Attributes:
        name: of the run.
        state: `waiting` has not begun; `running` is held by a process; `interrupted` goes on from
            its checkpoint; `failed` has a file in failures/; `trained` lacks its scores;
            `done` has them.
        step, steps: done and planned.
        loss: of the last metric line; None before it.
        examples_per_second: of that line.
        seconds_left: of training, by that line's speed; None where nothing is known.
        score: the headline of its results, with its key.
    """

    name: str
    state: State
    step: int
    steps: int
    loss: float | None = None
    examples_per_second: float | None = None
    seconds_left: float | None = None
    score: tuple[str, float] | None = None


def done_file(plan: Plan, run: PlannedRun) -> Path:
    """Written when the run is trained and scored: its hash, and the seconds of both."""
    return plan.folder_of(run) / "done.json"


def failure_file(plan: Plan, run: PlannedRun) -> Path:
    """What is left of a failure, for people."""
    return plan.folder / "failures" / f"{run.name}.txt"


def output_file(plan: Plan, run: PlannedRun) -> Path:
    """All that the run's processes printed; not in the run folder, which begins empty."""
    return plan.folder / "outputs" / f"{run.name}.txt"


def state_of(plan: Plan, run: PlannedRun) -> State:
    """The state of a run; a damaged file in its folder counts as absent."""
    if is_done(plan, run):
        return "done"
    if is_claimed(plan, run):
        return "running"
    if has_failed(plan, run):
        return "failed"
    if is_trained(plan, run):
        return "trained"
    return "interrupted" if RunFolder(plan.folder_of(run)).config_file.is_file() else "waiting"


def is_done(plan: Plan, run: PlannedRun) -> bool:
    """Whether it is trained and scored, as this plan has it."""
    found = _read_json(done_file(plan, run))
    return (
        found.get("config_hash") == plan.hash_of(run.name)
        and RunFolder(plan.folder_of(run)).results_file.is_file()
    )


def is_trained(plan: Plan, run: PlannedRun) -> bool:
    """Whether training reached its last step."""
    try:
        return RunFolder(plan.folder_of(run)).finished
    except RunError:
        return False


def mark_done(plan: Plan, run: PlannedRun, train: float, evaluate: float) -> None:
    """Writes `done.json`, whole."""
    seconds = {"train": round(train, 3), "evaluate": round(evaluate, 3)}
    write_json(done_file(plan, run), {"config_hash": plan.hash_of(run.name), "seconds": seconds})


def has_failed(plan: Plan, run: PlannedRun) -> bool:
    """Whether it failed as this plan has it; a failure of another config is history."""
    try:
        with failure_file(plan, run).open() as file:
            return file.readline().strip().endswith(plan.hash_of(run.name))
    except OSError:
        return False


def write_failure(plan: Plan, run: PlannedRun, code: int, output: str) -> str:
    """Writes the failure's file: exit code and the end of the output, traceback and all.

    Returns:
        Its last line that says something, for a table.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    text = (
        f"run {run.name}, config {plan.hash_of(run.name)}\n"
        f"exit code {code}; all of its output: {output_file(plan, run)}\n\n{output}"
    )
    write_bytes(failure_file(plan, run), text.encode())
    return lines[-1].strip() if lines else f"exit code {code}, and no output"


def failure_reason(plan: Plan, run: PlannedRun) -> str:
    """The last line of a failure's file."""
    try:
        lines = failure_file(plan, run).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines[2:]) if line.strip()), "no output")


def status_of(plan: Plan, run: PlannedRun) -> RunStatus:
    """All of a run's row in the table."""
    state = state_of(plan, run)
    folder = RunFolder(plan.folder_of(run))
    line = last_line(folder.metrics_file)
    steps = run.config.steps
    if line is None:
        step = steps if state in ("trained", "done") else 0
        return RunStatus(run.name, state, step, steps, score=_score(folder, state))
    rate, step = line["times"].get("examples_per_second"), line["step"]
    left = None
    if rate and state in ("running", "interrupted"):
        left = (steps - step) * run.config.batch_size / rate
    return RunStatus(
        run.name, state, step, steps, line["metrics"].get("loss"), rate, left, _score(folder, state)
    )


def last_line(path: Path) -> dict[str, Any] | None:
    """The last whole training line of a metrics file, or None; reads the file's end alone."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            texts = file.read().splitlines()
    except OSError:
        return None
    for text in reversed(texts):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if not isinstance(line, dict) or line.get("kind") != "train":
            continue
        parts = isinstance(line.get("metrics"), dict) and isinstance(line.get("times"), dict)
        if parts and isinstance(line.get("step"), int):
            return line
    return None


def headline(results: dict[str, Any]) -> tuple[str, float] | None:
    """The score of `results.json` that a table shows, with its key."""
    for key in _HEADLINES:
        found: Any = results
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, int | float):
            return key, float(found)
    return None


def _score(folder: RunFolder, state: State) -> tuple[str, float] | None:
    return headline(_read_json(folder.results_file)) if state == "done" else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
