"""`bench_auto`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_COLUMNS = ("T", "D", "E", "awake", "fused", "pathways", "tried", "model")


def print_auto(result: dict[str, Any], console: Console | None = None) -> None:
    """A row for each size and direction, and what they come to."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, column in enumerate(("", *_COLUMNS)):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    most = 1 + result["settings"]["tolerance"]
    for row in result["rows"]:
        cells = []
        for by, ratio in row["of_best"].items():
            shown = f"{ratio:.3f}"
            cells.append(f"{row[by]} {shown}" if ratio <= most else f"[bold]{row[by]} {shown}[/]")
        table.add_row(
            row["what"],
            *(str(row[name]) for name in ("tokens", "width", "experts", "awake")),
            *(f"{row[name]:.2f}" for name in ("fused", "pathways")),
            *cells,
        )
    console.print(table)
    mean = result["of_best"]
    for by, name in (("tried", "auto, which tries"), ("model", "the cost model alone")):
        console.print(
            f"{name}: within {100 * (most - 1):.0f} % of the better way in "
            f"{100 * result['within'][by]:.0f} % of the rows, at worst "
            f"{result['worst'][by]:.2f}, on average {mean[by]:.3f}",
            highlight=False,
        )
    console.print(
        f"always fused: {mean['fused']:.2f} on average; always pathways: {mean['pathways']:.2f}",
        highlight=False,
    )
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"Milliseconds; H=4D, K=1, float32, medians of {s['repeats']} rounds in turns; "
        f"calibrated in {result['calibration']:.1f} s, chosen in {result['choosing']:.0f} µs; "
        f"{device['kind']} ({device['platform']}, {device['cpus']} cores), JAX {versions['jax']}, "
        f"Python {versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )
