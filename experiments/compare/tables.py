"""A comparison as tables: for a terminal, and as Markdown."""

from __future__ import annotations

from . import words
from .comparing import Comparison


def print_tables(found: Comparison) -> None:
    """On the terminal, a block for each metric: many columns would not fit."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, many = Console(), len(found.groups) > 1
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("seeds", justify="right", no_wrap=True)
    table.add_column("mean", justify="right", no_wrap=True)
    if many:
        table.add_column("less the baseline")
    for place, key in enumerate(found.metrics):
        if place:
            table.add_row()
        table.add_row(Text(words.heading(key), "bold"))
        for group, cells in zip(found.groups, found.cells, strict=True):
            cell = cells[key]
            row = [words.seeds_text(cell), words.mean_text(key, cell.interval)]
            if many:
                base = group is found.groups[found.baseline]
                row.append("baseline" if base else words.difference_text(key, cell.difference))
            table.add_row(*(Text(text) for text in (f"  {group.label}", *row)))
    console.print(table)
    notes = [words.INTERVALS, words.DIFFERENCES if many else None, words.chance_note(found)]
    console.print()
    for note in filter(None, notes):
        console.print(note, style="dim", highlight=False, markup=False)
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False)


def _rows(found: Comparison) -> tuple[list[str], list[list[str]], list[list[str]]]:
    """Headings, the rows of means, and those of differences; the latter without the baseline."""
    headings = ["group", "seeds", *map(words.heading, found.metrics)]
    means, differences = [], []
    for place, (group, cells) in enumerate(zip(found.groups, found.cells, strict=True)):
        seeds = words.seeds_text(cells[found.metrics[0]])
        based = place == found.baseline and len(found.groups) > 1
        row = [group.label + (" (baseline)" if based else ""), seeds]
        for key, cell in cells.items():
            text = words.mean_text(key, cell.interval)
            # Another number of seeds than the row's first metric has.
            same = words.seeds_text(cell) == seeds
            row.append(text if same else f"{text} (n={len(cell.values)})")
        means.append(row)
        if place != found.baseline:
            row = [words.difference_text(key, cell.difference) for key, cell in cells.items()]
            differences.append([group.label, *row])
    return headings, means, differences


def markdown(found: Comparison) -> str:
    """Both tables and the notes, to paste elsewhere."""
    headings, means, differences = _rows(found)
    parts = [_table(headings, means), words.INTERVALS]
    if differences:
        base = found.groups[found.baseline].label
        parts += [f"Differences from {_plain(base)}:"]
        parts += [_table(["group", *headings[2:]], differences)]
        parts += [words.DIFFERENCES.replace("*", "\\*")]
        parts += [note for note in [words.chance_note(found)] if note]
    if found.notes:
        parts.append("\n".join(f"- {_plain(note)}" for note in found.notes))
    return "\n\n".join(parts) + "\n"


def _table(headings: list[str], rows: list[list[str]]) -> str:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return "\n".join(
        "| " + " | ".join(cell if line is lines[1] else _plain(cell) for cell in line) + " |"
        for line in lines
    )


def _plain(text: str) -> str:
    """Text whose signs Markdown does not take for its own."""
    for sign in "\\|*_`<[":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
