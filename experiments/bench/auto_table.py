"""`bench_auto`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = ("T", "D", "E", "awake", "fused ms", "pathways ms", "auto takes", "of the better")


def print_auto(result: dict[str, Any], console: Console | None = None) -> None:
    """A row for each size and direction, and what they come to."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, column in enumerate(("", *_COLUMNS)):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    tolerance = result["settings"]["tolerance"]
    for row in result["rows"]:
        of_best = f"{row['of_best']:.3f}"
        table.add_row(
            row["what"],
            *(str(row[name]) for name in ("tokens", "width", "experts", "awake")),
            *(f"{row[name]:.2f}" for name in ("fused", "pathways")),
            row["chosen"],
            of_best if row["of_best"] <= 1 + tolerance else f"[bold]{of_best}[/]",
        )
    console.print(table)
    console.print(
        f"auto within {100 * tolerance:.0f} % of the better way in {100 * result['within']:.0f} % "
        f"of the rows, at worst {result['worst']:.2f}; on average {result['auto_of_best']:.3f}, "
        f"always fused {result['fused_of_best']:.2f}, always pathways "
        f"{result['pathways_of_best']:.2f}",
        highlight=False,
    )
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"H=4D, K=1, float32, medians of {s['repeats']} rounds in turns; calibrated in "
        f"{result['calibration']:.1f} s, chosen in {result['choosing']:.0f} µs; {device['kind']} "
        f"({device['platform']}, {device['cpus']} cores), JAX {versions['jax']}, Python "
        f"{versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )
