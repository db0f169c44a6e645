"""Tables of results, for a terminal or for a page of the docs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Console

from .plain_table import plain_table


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns by name, and rows of text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As a page has it."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def target_table(targets: Sequence[dict]) -> Table:
    """What was wanted beside what was measured."""
    rows = [
        [one["name"], f"{one['value']:.3g}", one["wanted"], "met" if one["met"] else "missed"]
        for one in targets
    ]
    return Table(("target", "measured", "wanted", ""), rows)


def print_tables(
    tables: Sequence[Table], note: str, markdown: bool = False, console: Console | None = None
) -> None:
    """One after the other, and a line about how they came about.

    Args:
        tables: those without rows are left out.
        note: the line.
        markdown: for a page, rather than a terminal.
        console: where to; the terminal.
    """
    console = console or Console()
    for table in tables:
        if not table.rows:
            continue
        if markdown:
            console.print(table.markdown(), markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(plain_table(table.columns, table.rows))
            console.print()
    console.print(note, style="" if markdown else "dim", highlight=False, soft_wrap=markdown)


def note_of(result: dict) -> str:
    """Rounds, machine, versions and load of a result."""
    s, device, versions = result["settings"], result["device"], result["versions"]
    return (
        f"medians of {s['repeats']} rounds in turns; {device['kind']} ({device['platform']}, "
        f"{device['cpus']} cores), JAX {versions['jax']}, Python {versions['python']}, load "
        f"{result['load']:.1f}"
    )
