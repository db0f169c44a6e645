"""The benchmarks' results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .moe import WHATS


def print_moe(result: dict[str, Any], console: Console | None = None) -> None:
    """`bench_moe`'s rows, and below them the profiles if there are any."""
    console = console or Console()
    columns = ("ms", "dense ms", "ratio", "quartiles", "fastest", "temp MB", "of A")
    for what in WHATS:
        table = _table(f"{what}", "layer", columns)
        for row in result["rows"]:
            part = row[what]
            low, high = part["quartiles"]
            table.add_row(
                row["name"],
                f"{part['ms']:.2f}{'*' if part['options'] == 'ours' else ' '}",
                f"{part['dense_ms']:.2f}",
                f"[bold]{part['ratio']:.3f}[/]",
                f"{low:.2f}–{high:.2f}",
                f"{part['fastest']:.3f}",
                f"{part['temporary_bytes'] / 1e6:.1f}",
                f"{part['of_a']:.2f}",
            )
        console.print(table)
        console.print()
    if any(row[what]["options"] == "ours" for row in result["rows"] for what in WHATS):
        console.print("* without XLA's library fusions, which was faster for it", style="dim")
    _print_circumstances(result, console)
    programs = {row["name"]: row for row in result["rows"]} | {"dense": result["dense_programs"]}
    for name, row in programs.items():
        for what in WHATS:
            if "profile" in row[what]:
                console.print()
                _print_profile(f"{name}, {what}", row[what]["profile"], console)


def print_scaling(result: dict[str, Any], console: Console | None = None) -> None:
    """`bench_scaling`'s rows."""
    console = console or Console()
    for what in WHATS:
        table = _table(what, "E", ("ms", "ratio", "quartiles", "fastest", "FLOPs", "bytes"))
        for row in result["rows"]:
            part = row[what]
            low, high = part["quartiles"]
            table.add_row(
                str(row["experts"]),
                f"{part['ms']:.1f}",
                f"[bold]{part['ratio']:.3f}[/]",
                f"{low:.2f}–{high:.2f}",
                f"{part['fastest']:.3f}",
                f"×{part['flop_ratio']:.3f}",
                f"×{part['bytes_ratio']:.2f}",
            )
        console.print(table)
        console.print()
    _print_circumstances(result, console)


def _table(title: str, first: str, columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"{title}: {first}", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _print_circumstances(result: dict[str, Any], console: Console) -> None:
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{s['tokens']} tokens in groups of {s['group']}, D={s['width']}, H={s['hidden']}, "
        f"K={s['selected']}, capacity factor {s['capacity']:g}, {s['dtype']}, medians of "
        f"{s['repeats']} adjacent pairs; {device['kind']} ({device['platform']}, "
        f"{device['cpus']} cores), JAX {versions['jax']}, Python {versions['python']}, "
        f"load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )


def _print_profile(title: str, operations: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for column in ("ms", "operation", "result", "from"):
        table.add_column(column, justify="right" if column == "ms" else "left", no_wrap=True)
    for operation in operations:
        table.add_row(
            f"{operation['milliseconds']:.3f}",
            operation["name"],
            operation["shape"],
            operation["source"][-60:],
        )
    console.print(table)
