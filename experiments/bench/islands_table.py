"""`bench_islands`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .plain_table import plain_table


def print_islands(result: dict[str, Any], console: Console | None = None) -> None:
    """A row for each way, and the targets."""
    console = console or Console()
    rows = [
        [row["way"], f"{row['microseconds']:.1f}", "{:.1f}–{:.1f}".format(*row["quartiles"])]
        for row in result["rows"]
    ]
    console.print(plain_table(("way", "µs a node", "quartiles"), rows))
    console.print()
    rows = [
        [one["name"], f"{one['value']:.1f}", one["wanted"], "met" if one["met"] else "missed"]
        for one in result["targets"]
    ]
    console.print(plain_table(("target", "measured", "wanted", ""), rows))
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{s['chains']} chains of {s['nodes']} additions to {s['size']} numbers; medians of "
        f"{s['repeats']} rounds in turns; {device['kind']} ({device['platform']}, "
        f"{device['cpus']} cores), JAX {versions['jax']}, Python {versions['python']}, load "
        f"{result['load']:.1f}",
        style="dim",
        highlight=False,
    )
