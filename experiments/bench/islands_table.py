"""`bench_islands`'s results as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from .tables import Table, note_of, print_tables, target_table


def print_islands(
    result: dict[str, Any], markdown: bool = False, console: Console | None = None
) -> None:
    """A table for each benchmark that ran, and the targets."""
    tables = [
        table
        for name, make in _TABLES.items()
        if name in result
        for table in make(result[name]["rows"])
    ]
    tables.append(target_table(result["targets"]))
    print_tables(tables, note_of(result), markdown, console)


def _chain(rows: Sequence[dict[str, Any]]) -> list[Table]:
    lines = [
        [row["way"], f"{row['microseconds']:.1f}", "{:.1f}–{:.1f}".format(*row["quartiles"])]
        for row in rows
    ]
    return [Table(("chain", "µs a node", "quartiles"), lines)]


def _control(rows: Sequence[dict[str, Any]]) -> list[Table]:
    lines = [
        [
            row["way"],
            *(f"{row[name]:.2f}" for name in ("cpu_ms", "call_ms", "step_ms")),
            "–" if row["messages"] is None else str(row["messages"]),
        ]
        for row in rows
    ]
    columns = ("training step", "controller's CPU ms", "its call ms", "step ms", "messages")
    return [Table(columns, lines)]


def _pipeline(rows: Sequence[dict[str, Any]]) -> list[Table]:
    columns = ("one island", "jit", "ideal", "GPipe", "1F1B", "GPipe/ideal", "1F1B/ideal")
    names = ("one", "jit", "ideal", "gpipe", "1f1b")
    lines = [
        [
            f"M={row['micro_batches']}",
            *(f"{row[name]:.0f}" for name in names),
            f"{row['gpipe_of_ideal']:.2f}",
            f"{row['1f1b_of_ideal']:.2f}",
            "{:.2f}–{:.2f}".format(*row["quartiles"]),
            f"×{row['speedup']:.2f}",
        ]
        for row in rows
    ]
    return [Table(("pipeline: ms", *columns, "quartiles", "speed-up"), lines)]


def _experts(rows: Sequence[dict[str, Any]]) -> list[Table]:
    columns = ("of them there", "islands ms", "jit ms", "ratio", "messages here", "there")
    return [
        Table(
            (f"{what}: awake", *columns),
            [
                [
                    str(row["awake"]),
                    str(row["there"]),
                    f"{row[what]['ms']:.1f}",
                    f"{row[what]['jit']:.1f}",
                    f"{row[what]['ratio']:.2f}",
                    str(row[what]["here"]),
                    str(row[what]["there"]),
                ]
                for row in rows
            ],
        )
        for what in ("forward", "train")
    ]


_TABLES = {"chain": _chain, "control": _control, "pipeline": _pipeline, "experts": _experts}
