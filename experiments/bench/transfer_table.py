"""`bench_transfer`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .tables import Table, note_of, print_tables, target_table


def print_transfer(
    result: dict[str, Any], markdown: bool = False, console: Console | None = None
) -> None:
    """A row for each size, and the targets."""
    rows = [
        [
            f"{row['kilobytes']:,}",
            *("–" if row[way] is None else f"{row[way]:.2f}" for way in ("bare", "adapter", "ray")),
            f"{row['ratio']:.3f}",
            "{:.3f}–{:.3f}".format(*row["quartiles"]),
            f"{row['added']:+.3f}",
        ]
        for row in result["rows"]
    ]
    columns = ("KB", "bare ms", "adapter ms", "Ray's store ms", "ratio", "quartiles", "added ms")
    note = f"between two processes, {note_of(result)}"
    if result["skipped"]:
        note += f"; no Ray: {result['skipped']}"
    print_tables([Table(columns, rows), target_table(result["targets"])], note, markdown, console)
