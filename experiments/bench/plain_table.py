"""A table without rules: the first column to the left, numbers to the right."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Of as many columns as there are names, whole on their lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
