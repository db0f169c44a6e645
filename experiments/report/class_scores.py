"""A classifier's scores by class, its confusions and its honesty, ready to draw."""

from __future__ import annotations

import dataclasses
from typing import Any

from .scores import Bar

_BASELINES = {"chance": "chance", "nearest_mean": "nearest mean"}
# Classes for which a matrix can be read; with more there is a list of the most common mistakes.
_MATRIX = 24
_HARDEST = 24
_MISTAKES = 12


@dataclasses.dataclass(frozen=True)
class Cell:
    """Pictures of one class taken for one class.

    Attributes:
        share: of the true class's pictures.
        right: it is the diagonal.
        title: the same in words.
    """

    share: float
    right: bool
    title: str


@dataclasses.dataclass(frozen=True)
class Setting:
    """Accuracy under one K and capacity.

    Attributes:
        selected: K.
        capacity, order: in words.
        top1, top5: fractions.
        change: of top1 from the first row's, in hundredths.
    """

    selected: int
    capacity: str
    order: str
    top1: float
    top5: float
    change: float


def comparison(results: dict[str, Any]) -> list[Bar]:
    """Top-1 of the run and of what it has to beat."""
    bars = [Bar("this run", results["scores"]["top1"], True)]
    for key, entry in results["baselines"].items():
        bars.append(Bar(str(_BASELINES.get(key, key)), entry["top1"], False))
    return bars


def hardest(results: dict[str, Any]) -> list[Bar]:
    """Accuracy of each class, the hardest first; those without pictures are left out."""
    found = [
        Bar(name, value, False)
        for name, value in zip(results["classes"], results["of_class"], strict=True)
        if value is not None
    ]
    return sorted(found, key=lambda bar: bar.value)[:_HARDEST]


def confusion(results: dict[str, Any]) -> list[tuple[str, list[Cell]]]:
    """A row of cells for each true class; empty where there are too many classes to read."""
    names, counts = results["classes"], results["count_of_class"]
    if len(names) > _MATRIX:
        return []
    found = {(true, taken): many for true, taken, many in results["confusion"]}
    rows = []
    for true, name in enumerate(names):
        cells = []
        for taken, other in enumerate(names):
            many = found.get((true, taken), 0)
            title = f"{many} of {counts[true]} {name} taken for {other}"
            cells.append(Cell(many / max(1, counts[true]), true == taken, title))
        rows.append((name, cells))
    return rows


def mistakes(results: dict[str, Any]) -> list[tuple[str, str, int, float]]:
    """The most common ones: class, what it was taken for, pictures, share of the class."""
    names, counts = results["classes"], results["count_of_class"]
    wrong = sorted((row for row in results["confusion"] if row[0] != row[1]), key=lambda r: -r[2])
    return [
        (names[true], names[taken], many, many / max(1, counts[true]))
        for true, taken, many in wrong[:_MISTAKES]
    ]


def other_settings(results: dict[str, Any]) -> list[Setting]:
    """K and capacity other than trained with, beside the model as it is scored above."""
    rows, own = [], results["scores"]["top1"]
    for row in results["settings"]:
        factor = row["capacity_factor"]
        order = {True: "the surest first", False: "in order", None: "everybody"}
        rows.append(
            Setting(
                row["selected"],
                "dropless" if factor is None else f"{factor:g} × even share",
                order[row.get("batch_priority")],
                row["top1"],
                row["top5"],
                100 * (row["top1"] - own),
            )
        )
    return rows
