"""`bench_pathways`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from .moe import WHATS


def print_pathways(result: dict[str, Any], console: Console | None = None) -> None:
    """A table for each direction, where its gains come from, and the targets.

    `flow` is the dataflow, `on` so many devices; `of dense` both sides' time over the dense MLP's;
    `runs` how many runs of rows are multiplied at once.
    """
    console = console or Console()
    for what in WHATS:
        rows = [_row(result, what, case) for case in result[what]]
        columns = (
            "jit ms",
            "pathways ms",
            "ratio",
            "quartiles",
            "on",
            "awake",
            "jit/dense",
            "ours",
        )
        console.print(_table((what, *columns), rows))
        console.print()
    for what in WHATS:
        gains = [
            [
                case,
                *(f"{100 * found[name]:+.0f} %" if name in found else "–" for name in _GAINS),
                *_work(result["details"][what][case]["work"]),
            ]
            for case, found in result["gains"][what].items()
        ]
        columns = (*_GAINS, "rows", "runs", "gradients MB")
        console.print(_table((f"{what} saves by", *columns), gains))
        console.print()
    rows = [
        [t["name"], f"{t['value']:.2f}", t["wanted"], "yes" if t["met"] else "NO"]
        for t in result["targets"]
    ]
    console.print(_table(("target", "measured", "wanted", "met"), rows))
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{s['tokens']} and {s['few']} tokens, D={s['width']}, H={s['hidden']}, E={s['experts']}, "
        f"K=1, float32, medians of {s['repeats']} rounds in turns; {device['kind']} "
        f"({device['platform']}, {device['cpus']} cores), JAX {versions['jax']}, Python "
        f"{versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )


_GAINS = ("sleeping", "products", "devices")


def _row(result: dict[str, Any], what: str, case: str) -> list[str]:
    part, dense = result["details"][what][case], result["dense"][what][case]
    ms, devices = part["ms"], part["devices"]
    low, high = part["quartiles"]
    return [
        case,
        f"{ms['jit']:.2f}",
        f"{ms[f'pathways ×{devices}']:.2f}",
        f"[bold]{result[what][case]:.3f}[/]",
        f"{low:.2f}–{high:.2f}",
        f"×{devices}",
        str(part["awake"]),
        f"{dense['jit']:.2f} → {dense['pathways']:.2f}",
    ]


def _work(work: dict[str, Any]) -> list[str]:
    jit, ours = work["jit"], work["pathways"]
    return [f"{jit[name]:.0f} → {ours[name]:.0f}" for name in ("rows", "products", "gradient_mb")]


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
