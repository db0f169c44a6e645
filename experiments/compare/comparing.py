"""Groups of runs beside each other: a mean and a difference for each group and metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..errors import UsageError
from ..suggest import nearest
from . import metrics as numbers
from .groups import Group, group_runs
from .reading import find_runs, read_runs, unbegun
from .statistics import LEVEL, Interval, mean_interval, paired_difference, welch_difference


@dataclasses.dataclass(frozen=True)
class Difference:
    """A group's mean less the baseline's.

    Attributes:
        interval: of the difference; without ends where there are too few runs.
        p: two-sided, against no difference; None as the ends.
        how: `paired` by seed, or `welch` where fewer than two seeds are shared.
        seeds: that are shared and finished.
    """

    interval: Interval
    p: float | None
    how: Literal["paired", "welch"]
    seeds: tuple[int, ...]

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero; what no seed changes is not tested."""
        half = self.interval.half
        return bool(half) and abs(self.interval.mean) > half


@dataclasses.dataclass(frozen=True)
class Cell:
    """One metric of a group.

    Attributes:
        values: by seed.
        missing: why a seed has none.
        interval: of the values; None where there are none.
        difference: from the baseline; None of the baseline itself, and where a side has no value.
    """

    values: Mapping[int, float]
    missing: Mapping[int, str]
    interval: Interval | None
    difference: Difference | None = None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `byways compare` shows.

    Attributes:
        kind: of the runs' scores: `contrastive`, `classification` or `language`.
        groups: in the order of their first runs.
        metrics: keys of the columns.
        cells: of each group, in the order of `groups`, by metric.
        baseline: place of the group that the others are held against.
        notes: what is wanting, a sentence each.
    """

    kind: str
    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    cells: tuple[Mapping[str, Cell], ...]
    baseline: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; docs/compare.md says what it holds."""
        return {
            "format": 1,
            "kind": self.kind,
            "level": LEVEL,
            "baseline": self.groups[self.baseline].label,
            "metrics": list(self.metrics),
            "groups": [
                {
                    "label": group.label,
                    "preset": group.preset,
                    "differs": dict(group.differs),
                    "runs": [
                        {"path": str(run.path), "seed": run.seed, "finished": run.finished}
                        for run in group.runs
                    ],
                    "metrics": {key: _cell_dict(cell) for key, cell in cells.items()},
                }
                for group, cells in zip(self.groups, self.cells, strict=True)
            ],
            "notes": list(self.notes),
        }


def compare_runs(
    paths: Sequence[Path], metrics: Sequence[str] = (), baseline: str | None = None
) -> Comparison:
    """Sets runs beside each other.

    Args:
        paths: run folders, and folders of runs.
        metrics: keys; by default those of `default_metrics`.
        baseline: label of a group, or a part of only one; by default the first group.

    Raises:
        UsageError: no runs, one named twice, an unknown metric or baseline.
        RunError: a folder that is no run, runs of several kinds, or one run in two folders.
        ConfigError: a run's config names keys that this version does not know.
    """
    runs = read_runs(find_runs(paths))
    groups = group_runs(runs)
    at = _place(baseline, [group.label for group in groups])
    numbers.check_keys(metrics, runs)
    keys = tuple(dict.fromkeys(metrics or numbers.default_metrics(runs)))
    cells = [{key: _cell(group, key) for key in keys} for group in groups]
    against = cells[at]
    whole = [
        {
            key: cell
            if place == at
            else dataclasses.replace(cell, difference=difference(cell, against[key]))
            for key, cell in row.items()
        }
        for place, row in enumerate(cells)
    ]
    notes = [*unbegun(paths), *(note for run in runs for note in run.notes)]
    notes += [*_few(groups), *_missing(groups, whole), *_asked(groups)]
    return Comparison(runs[0].family, tuple(groups), keys, tuple(whole), at, tuple(notes))


def difference(cell: Cell, against: Cell) -> Difference | None:
    """Of two groups' values: by seed, or of unrelated runs where fewer than two seeds pair."""
    if not (cell.values and against.values):
        return None
    shared = tuple(sorted(cell.values.keys() & against.values.keys()))
    both = min(len(cell.values), len(against.values))
    if len(shared) > 1 or (shared and both < 2):
        found = paired_difference(cell.values, against.values)
        return Difference(found.interval, found.p, "paired", shared)
    other = welch_difference(list(cell.values.values()), list(against.values.values()))
    return Difference(other.interval, other.p, "welch", shared)


def _cell(group: Group, key: str) -> Cell:
    found = {run.seed: numbers.value_of(run, key) for run in group.runs}
    values = {seed: value for seed, value in found.items() if not isinstance(value, str)}
    missing = {seed: value for seed, value in found.items() if isinstance(value, str)}
    return Cell(values, missing, mean_interval(list(values.values())) if values else None)


def _place(baseline: str | None, labels: Sequence[str]) -> int:
    if baseline is None:
        return 0
    if baseline in labels:
        return labels.index(baseline)
    parts = [place for place, label in enumerate(labels) if baseline in label]
    if len(parts) == 1:
        return parts[0]
    found = nearest(baseline, labels)
    hint = f"; did you mean '{found}'?" if found else "."
    what = f"is a part of {len(parts)} groups' labels" if parts else "is no group's label"
    raise UsageError(f"--baseline '{baseline}' {what}{hint} Groups: {'; '.join(labels)}")


def _few(groups: Sequence[Group]) -> list[str]:
    ready = {group.label: sum(run.finished for run in group.runs) for group in groups}
    lone = [label for label, count in ready.items() if count == 1]
    if not lone:
        return []
    who = "every group" if len(lone) == len(groups) else "; ".join(lone)
    return [
        f"One seed only ({who}): a single run says nothing of the spread over seeds, so it has no "
        "interval"
    ]


def _missing(groups: Sequence[Group], rows: Sequence[Mapping[str, Cell]]) -> list[str]:
    """Values that a run should have; what its own notes explain is not said again."""
    notes = []
    for group, row in zip(groups, rows, strict=True):
        paths = {run.seed: run.path for run in group.runs}
        for key, cell in row.items():
            for seed, why in cell.missing.items():
                if why not in ("not finished", "not evaluated"):
                    what = f"its {key} is {why}" if why == "not finite" else f"it has {why}"
                    notes.append(f"{paths[seed]} is left out of {key}: {what}")
    return notes


def _asked(groups: Sequence[Group]) -> list[str]:
    """Scores by different class names, templates or splits do not compare."""
    notes = []
    for what, of in (
        ("class names", lambda r: r.get("class_names_sha256")),
        ("templates", lambda r: r["templates"].get("sha256") if r.get("templates") else None),
        ("splits", lambda r: r.get("split")),
        ("vocabularies", lambda r: r.get("vocabulary")),
    ):
        runs = [run for group in groups for run in group.runs if run.results is not None]
        found = {_told(of, run.results): run.path for run in reversed(runs)}
        if len(found) > 1:
            named = " and ".join(str(path) for path in list(found.values())[:2])
            care = (
                "only bits a byte compare"
                if what == "vocabularies"
                else "their scores answer different questions"
            )
            notes.append(f"{named} were scored with different {what}: {care}")
    return notes


def _told(of: Callable[[Any], Any], results: Any) -> str:
    """As text, whatever stands in a results.json of other people's."""
    try:
        return repr(of(results))
    except (AttributeError, TypeError, KeyError):
        return "(unreadable)"


def _cell_dict(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {
        "values": {str(seed): value for seed, value in cell.values.items()},
        "missing": {str(seed): why for seed, why in cell.missing.items()},
        **(dataclasses.asdict(cell.interval) if cell.interval else {"mean": None, "n": 0}),
        "difference": None,
    }
    if cell.difference:
        d = cell.difference
        found["difference"] = {
            **dataclasses.asdict(d.interval),
            "p": d.p,
            "how": d.how,
            "seeds": list(d.seeds),
        }
    return found
