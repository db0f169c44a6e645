"""`byways data peek`: a data set's elements on the terminal and on a contact sheet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from .config import DataConfig
from .contact_sheet import write_contact_sheet
from .emoji_art.licences import attribution
from .examples import Examples
from .scenes import Scenes
from .streams import load_data


@dataclasses.dataclass(frozen=True)
class Element:
    """One thing to look at: (S,S,3) uint8 `image`, with its `name`, `caption` and `note`."""

    image: np.ndarray
    name: str
    caption: str
    note: str


def peek(
    name: str,
    sheet: Path,
    *,
    split: str = "train",
    count: int = 32,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> Path:
    """Prints elements of a data set and writes a PNG contact sheet of them.

    Args:
        name: `emoji_art`, `emoji_scenes`, or any prepared data set.
        sheet: the PNG to write, whole or not at all.
        split: which part; `emoji_scenes` has `train` alone.
        count: how many elements, at least 1; spread over the split.
        data_dir: where prepared data sets are; None is the one in the package.
        seed: of the scenes.

    Returns:
        `sheet`.

    Raises:
        RecordError: the data set is missing, corrupt or has a row that cannot be used.
        ValueError: no such split, or a count below 1.
    """
    from rich.console import Console
    from rich.table import Table

    if count < 1:
        raise ValueError(f"count is {count}, and must be at least 1.")
    config = DataConfig(name=name, data_dir=str(data_dir) if data_dir is not None else None)
    examples = load_data(config)
    if name == "emoji_scenes":
        if split != "train":
            raise ValueError(f"emoji_scenes has no split {split!r}; it has train alone.")
        elements, total = _scenes(examples, count, seed), "endless"
    else:
        elements, total = _rows(examples, split, count)
    ours = name in ("emoji_art", "emoji_scenes")
    credit = attribution(_artists(examples, name, split)) if ours else f"From {name}."
    table = Table(title=f"{name} · {split} · {total}")
    for column in ("id", "caption", "more"):
        table.add_column(column, overflow="fold")
    for element in elements:
        table.add_row(element.name, element.caption, element.note)
    console = Console()
    console.print(table)
    console.print(credit, style="dim", markup=False)
    write_contact_sheet(
        sheet, [e.image for e in elements], [e.caption for e in elements], attribution=credit
    )
    console.print(f"Contact sheet: {sheet}", markup=False)
    return sheet


def _artists(examples: Examples, name: str, split: str) -> list[str]:
    rows = examples.rows("train" if name == "emoji_scenes" else split)
    return sorted(set(examples.artist[rows].tolist()))


def _rows(examples: Examples, split: str, count: int) -> tuple[list[Element], str]:
    rows = examples.rows(split)
    chosen = rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
    elements = []
    for row, image in zip(chosen, examples.images(chosen), strict=True):
        concept = examples.concepts[examples.concept[row]]
        note = ", ".join(concept.keywords)
        elements.append(Element(image, str(examples.name[row]), concept.label, note))
    return elements, f"{len(rows)} rows"


def _scenes(examples: Examples, count: int, seed: int) -> list[Element]:
    scenes = Scenes(examples, seed)
    elements = []
    for index in range(count):
        scene = scenes[index]
        names = ", ".join(str(examples.name[row]) for row in scene.rows)
        elements.append(Element(scene.image, f"{seed}/{index}", scene.caption, names))
    return elements
