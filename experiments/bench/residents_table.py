"""`bench_residents`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_residents(result: dict[str, Any], console: Console | None = None) -> None:
    """A row for each size of batch and budget."""
    console = console or Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = result["rows"]
    columns = (
        "stream",
        "batch",
        "awake",
        "budget",
        "ms",
        "slowdown",
        "hit rate",
        "MB a batch",
        "peak MB",
        "equal",
    )
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for base in result["base"]:
        which = (base["stream"], str(base["batch"]), f"{base['awake']:.1f}")
        table.add_row(*which, "none", f"{base['ms']:.1f}", "1", "–", "–", "–", "–")
        for row in rows:
            if (row["stream"], row["batch"]) == (base["stream"], base["batch"]):
                table.add_row(
                    *("", "", ""),
                    f"{row['budget']} %",
                    f"{row['ms']:.1f}",
                    f"[bold]{row['slowdown']:.2f}[/]",
                    f"{100 * row['hit_rate']:.0f} %",
                    f"{row['fetched'] / 1e6:.1f}",
                    f"{row['peak'] / 1e6:.1f}",
                    "yes" if row["equal"] else "NO",
                )
    console.print(table)
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{result['experts']['bytes'] / 1e6:.0f} MB of experts, {s['depth'] // 2} layers of "
        f"{s['experts']}; D={s['width']}, H={s['hidden']}, K=1, "
        f"float32, {s['together']} together, medians of {s['repeats']} rounds in turns over "
        f"{s['images']} images; {device['kind']} ({device['platform']}, {device['cpus']} cores), "
        f"JAX {versions['jax']}, Python {versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )
