"""`bench_serving`'s results as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from .tables import Table, note_of, print_tables

_WAYS = {
    "single": "one text after the other",
    "static": "fixed batches",
    "continuous": "continuous, in this process",
    "islands": "continuous, one island to read and one to write",
    "bare": "the jitted step alone",
}


def print_serving(
    result: dict[str, Any], markdown: bool = False, console: Console | None = None
) -> None:
    """A table for each measurement that ran."""
    tables = [make(result[name]) for name, make in _TABLES.items() if name in result]
    s = result["settings"]
    what = f"E = {s['experts']}, K = 2" if s["experts"] else "dense"
    size = f"D = {s['width']}, L = {s['depth']}, {what}; {s['rows']} rows; "
    print_tables(tables, size + note_of(result), markdown, console)


def _throughput(rows: Sequence[dict[str, Any]]) -> Table:
    lines = [
        [
            _WAYS[row["way"]],
            f"{row['tokens_per_second']:,.0f}",
            "{:,.0f}–{:,.0f}".format(*row["quartiles"]),
            f"×{row['speedup']:.2f}",
            "–" if row["first_token"] is None else f"{1e3 * row['first_token']:.0f}",
            "–" if row["occupancy"] is None else f"{row['occupancy']:.0%}",
        ]
        for row in rows
    ]
    columns = ("texts", "tokens/s", "quartiles", "over single", "first token ms", "rows in use")
    return Table(columns, lines)


def _step(rows: Sequence[dict[str, Any]]) -> Table:
    lines = [
        [
            _WAYS[row["way"]],
            f"{row['microseconds']:,.0f}",
            "{:,.0f}–{:,.0f}".format(*row["quartiles"]),
            f"{row['added']:,.0f}",
            f"{row['cpu']:,.0f}",
        ]
        for row in rows
    ]
    columns = ("a step of all rows", "µs", "quartiles", "added µs", "controller's CPU µs")
    return Table(columns, lines)


_TABLES = {"throughput": _throughput, "step": _step}
