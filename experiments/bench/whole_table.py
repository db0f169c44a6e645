"""`bench_whole`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .plain_table import plain_table


def print_whole(result: dict[str, Any], console: Console | None = None) -> None:
    """A table of the training step, one of inference, and the scores where there are any."""
    console = console or Console()
    rows = [
        [
            _NAMES[mode],
            f"{row['ms']:.1f}",
            f"{row['over_fused']:.3f}",
            "{:.3f}–{:.3f}".format(*row["quartiles"]),
        ]
        for mode, row in result["train"].items()
    ]
    console.print(plain_table(("training step", "ms", "of fused", "quartiles"), rows))
    awake = " ".join(map(str, result["awake"]))
    console.print(f"experts awake in each sparse layer: {awake} of {result['experts']}\n")
    rows = [
        [
            f"{row['input']}, {row['batch']}",
            f"{row['fused_ms']:.2f}",
            f"{row['pathways_ms']:.2f}",
            f"{row['ratio']:.3f}",
            "{:.3f}–{:.3f}".format(*row["quartiles"]),
            " ".join(map(str, row["awake"])),
        ]
        for row in result["inference"]
    ]
    columns = ("inference", "fused ms", "pathways ms", "ratio", "quartiles", "awake")
    console.print(plain_table(columns, rows))
    if "scores" in result:
        names = ["seen/top1", "seen/top5"]
        rows = [
            [_NAMES[mode], *(f"{scores[name]:.4f}" for name in names)]
            for mode, scores in result["scores"].items()
        ]
        steps = result["settings"]["score_steps"]
        console.print()
        console.print(plain_table((f"after {steps} more steps", *names), rows))
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"{result['run']} at step {result['step']}; medians of {s['repeats']} rounds in turns; "
        f"{device['kind']} ({device['platform']}, {device['cpus']} cores, experts on "
        f"{s['devices']}), JAX {versions['jax']}, Python {versions['python']}, "
        f"load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )


_NAMES = {
    "fused": "fused, dropless",
    "pathways": "pathways, exact",
    "sparse": "pathways, sparse updates",
}
