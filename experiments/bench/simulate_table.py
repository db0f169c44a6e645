"""`simulate`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .plain_table import plain_table


def print_simulations(result: dict[str, Any], console: Console | None = None) -> None:
    """A table or two for each simulation that ran."""
    console = console or Console()
    for name, show in _SHOW.items():
        if name in result:
            for title, columns, rows in show(result[name]):
                console.print(plain_table((title, *columns), rows))
                console.print()
    console.print(
        "simulated times, but for `control`, which is this machine's "
        f"({result['device']['cpus']} cores, load {result['load']:.1f}); "
        "what was fitted and what is predicted: docs/simulation.md",
        style="dim",
        highlight=False,
    )


Tables = list[tuple[str, tuple[str, ...], list[list[str]]]]


def _parity(part: dict[str, Any]) -> Tables:
    rows = [
        [
            f"{row['islands']} × {row['hosts'] // row['islands']} hosts",
            f"{row['devices']:,}",
            f"{row['calls']:.2f}",
            "" if row["published"] is None else f"{row['published']:.1f}",
            _percent(row["error"]),
            f"{row['chained']:.2f}",
        ]
        for row in part["rows"]
    ]
    columns = ("devices", "calls ms", "paper (fitted)", "error", "chained ms")
    relays = [
        [
            f"{row['messages']}, {row['relay'] or 'all'} a sender",
            f"{row['calls']:.2f}",
        ]
        for row in part["relays"]
    ]
    return [
        ("parity: islands", columns, rows),
        ("512 hosts, messages", ("calls ms",), relays),
    ]


def _order(part: dict[str, Any]) -> Tables:
    rows = [
        [
            f"{row['length']:g} ms × {row['stages']}",
            *(f"{row[key]:.1f}" for key in ("ideal", "parallel", "sequential")),
            f"{row['ratio']:.2f}",
            f"{row['narrow']:.1f}",
        ]
        for row in part["rows"]
    ]
    columns = ("ideal ms", "parallel", "sequential", "ratio", "parallel, window 16")
    return [("order: stages", columns, rows)]


def _islands(part: dict[str, Any]) -> Tables:
    rows = [
        [
            f"{row['model']}, {row['islands']} × {row['devices'] // row['islands']:,}",
            str(row["chunks"]),
            f"{row['one']:.2f}",
            f"{row['several']:.2f}",
            f"{100 * row['of_one']:.1f} %",
            "" if row["published"] is None else f"{100 * row['published']:.1f} %",
            f"{row['gigabytes']:,.0f}",
            "" if row["published_gigabytes"] is None else f"{row['published_gigabytes']:,.0f}",
        ]
        for row in part["rows"]
    ]
    columns = ("pieces", "one island s", "islands s", "of one", "paper", "GB", "paper")
    return [("islands", columns, rows)]


def _pipeline(part: dict[str, Any]) -> Tables:
    rows = [
        [
            f"{row['islands']} × {row['devices'] // row['islands']}, "
            f"S={row['stages']} M={row['micro_batches']}",
            f"{row['tokens'] / 1e3:.1f}",
            f"{row['published'] / 1e3:.1f}",
            "fitted" if row["fitted"] else _percent(row["error"]),
            f"{row['narrow'] / 1e3:.1f}",
        ]
        for row in part["rows"]
    ]
    columns = ("k tokens/s", "paper", "error", "window 16")
    return [("pipeline", columns, rows)]


def _control(part: dict[str, Any]) -> Tables:
    rows = [
        [
            f"{row['devices']:,} on {row['islands']}",
            *(f"{row[key]:.1f}" for key in ("trace", "lower", "dispatch", "alternating")),
        ]
        for row in part["rows"]
    ]
    columns = ("trace µs a node", "lower", "dispatch", "alternating")
    return [("control: devices", columns, rows)]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:+.1f} %"


_SHOW = {
    "parity": _parity,
    "order": _order,
    "islands": _islands,
    "pipeline": _pipeline,
    "control": _control,
}
