"""`bench_transfer`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .plain_table import plain_table


def print_transfer(result: dict[str, Any], console: Console | None = None) -> None:
    """A row for each size, and the targets."""
    console = console or Console()
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
    console.print(plain_table(columns, rows))
    if result["skipped"]:
        console.print(f"No Ray: {result['skipped']}", style="dim", highlight=False)
    console.print()
    rows = [
        [one["name"], f"{one['value']:.3f}", one["wanted"], "met" if one["met"] else "missed"]
        for one in result["targets"]
    ]
    console.print(plain_table(("target", "measured", "wanted", ""), rows))
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"Between two processes, medians of {s['repeats']} rounds in turns; {device['kind']} "
        f"({device['platform']}, {device['cpus']} cores), JAX {versions['jax']}, Python "
        f"{versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )
