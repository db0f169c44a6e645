"""The tables of `byways bench island-training`."""

from __future__ import annotations

from rich.console import Console

from .tables import Table, note_of, print_tables, target_table


def print_island_training(
    result: dict, markdown: bool = False, console: Console | None = None
) -> None:
    """Prints what `bench_island_training` returns."""
    columns = ("islands", "batch", "step, ms", "controller's CPU, ms", "call, ms", "messages")
    rows = [
        [
            str(row["islands"]),
            str(row["batch"]),
            *(f"{row[name]:.2f}" for name in ("step_ms", "cpu_ms", "call_ms")),
            str(row["messages"]),
        ]
        for row in result["rows"]
    ]
    tables = [Table(columns, rows), target_table(result["targets"])]
    print_tables(tables, note_of(result), markdown, console)
