"""`bench_pathways`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .moe import WHATS
from .plain_table import plain_table


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
        console.print(plain_table((what, *columns), rows))
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
        console.print(plain_table((f"{what} saves by", *columns), gains))
        console.print()
    rows = [
        [t["name"], f"{t['value']:.2f}", t["wanted"], "yes" if t["met"] else "NO"]
        for t in result["targets"]
    ]
    console.print(plain_table(("target", "measured", "wanted", "met"), rows))
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
