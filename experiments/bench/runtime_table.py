"""`bench_runtime`'s results as people read them."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from .plain_table import plain_table


def print_runtime(result: dict[str, Any], console: Console | None = None) -> None:
    """A table for each benchmark that ran, then the targets."""
    console = console or Console()
    for name, show in _SHOW.items():
        if name in result:
            show(result[name], console)
            console.print()
    if result["targets"]:
        rows = [
            [t["name"], f"{t['value']:.3g}", t["wanted"], "yes" if t["met"] else "NO"]
            for t in result["targets"]
        ]
        console.print(plain_table(("target", "measured", "wanted", "met"), rows))
    s, device, versions = result["settings"], result["device"], result["versions"]
    console.print(
        f"medians of {s['repeats']} rounds in turns; {device['kind']} ({device['platform']}, "
        f"{device['cpus']} cores, {s['devices']} virtual devices), JAX {versions['jax']}, "
        f"Python {versions['python']}, load {result['load']:.1f}",
        style="dim",
        highlight=False,
    )


def _dispatch(part: dict[str, Any], console: Console) -> None:
    places = [name for name in ("one device", "all-reduce") if name in part]
    roads = list(part["one device"])
    rows = [[road, *(f"{part[place][road]:.1f}" for place in places)] for road in roads]
    for road, found in part["ray"].items():
        said = f"{found['microseconds']:.1f}" if "microseconds" in found else found["skipped"]
        rows.append([f"Ray {road}", said, *[""] * (len(places) - 1)])
    console.print(plain_table(("dispatch: µs a node", *places), rows))
    for road in ("actors", "compiled"):
        if f"ray_{road}_over_chained" in part:
            console.print(f"Ray {road} over chained: ×{part[f'ray_{road}_over_chained']:.1f}")
    console.print(f"chained above bare calls: {part['chained_over_calls']:.1f} µs a node")


def _parity(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            str(row["length"]),
            f"{row['milliseconds']:.3f}",
            f"{row['calls']:.2f}",
            f"{row['chained']:.2f}",
        ]
        for row in part["rows"]
    ]
    console.print(plain_table(("parity: products", "ms a call", "calls", "chained"), rows))
    for road in ("calls", "chained"):
        found = part[f"parity_{road}"]
        said = "never" if found is None else f"from {found:.3f} ms a call"
        console.print(f"90 % of plain JAX, {road}: {said}")


def _order(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            str(row["stages"]),
            f"{row['parallel']:.2f}",
            f"{row['sequential']:.2f}",
            f"{row['ratio']:.2f}",
        ]
        for row in part["rows"]
    ]
    console.print(plain_table(("order: stages", "parallel ms", "sequential ms", "ratio"), rows))


def _clients(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            str(row["clients"]),
            f"{row['runtime']:.0f}",
            f"{row['jax']:.0f}",
            f"{row['of_one']:.3f}",
            f"{row['of_jax']:.3f}",
        ]
        for row in part["rows"]
    ]
    first = f"clients of {part['program']:g} ms"
    columns = (first, "programs/s", "jax threads", "of one", "of jax")
    console.print(plain_table(columns, rows))


def _shares(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            ":".join(map(str, row["weights"])),
            " ".join(f"{share:.3f}" for share in row["shares"]),
            f"{100 * row['error']:.1f} %",
        ]
        for row in part["rows"]
    ]
    console.print(plain_table(("shares", "achieved", "furthest"), rows))


def _pipeline(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            f"S={row['stages']} M={row['micro_batches']}",
            *(f"{row[name]:.1f}" for name in ("gpipe", "1f1b", "spmd", "spmd remat")),
            f"{row['gpipe_of_spmd']:.2f}",
            f"{row['1f1b_of_spmd']:.2f}",
            f"{100 * row['bubble']:.0f} %",
        ]
        for row in part["rows"]
    ]
    columns = ("gpipe ms", "1f1b ms", "spmd ms", "remat ms", "gpipe/spmd", "1f1b/spmd", "bubble")
    console.print(plain_table(("pipeline", *columns), rows))


def _spmd(part: dict[str, Any], console: Console) -> None:
    rows = [
        [
            str(row["devices"]),
            f"{row['jax']:.2f}",
            f"{row['runtime']:.2f}",
            f"{row['ratio']:.3f}",
            "{:.3f}–{:.3f}".format(*row["quartiles"]),
        ]
        for row in part["rows"]
    ]
    columns = ("step: devices", "jit ms", "one node ms", "throughput", "quartiles")
    console.print(plain_table(columns, rows))


_SHOW = {
    "dispatch": _dispatch,
    "parity": _parity,
    "order": _order,
    "clients": _clients,
    "shares": _shares,
    "pipeline": _pipeline,
    "spmd": _spmd,
}
