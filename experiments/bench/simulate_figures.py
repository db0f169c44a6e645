"""`simulate`'s results as drawings: an SVG file for each simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..claims.figure import Bar, bar_figure, figure
from ..files import write_bytes
from ..report.charts import Chart, Series


def write_figures(result: dict[str, Any], folder: Path) -> list[Path]:
    """Writes a drawing of each simulation that ran; gives the files."""
    found = []
    for name, draw in _DRAWINGS.items():
        if name in result:
            path = folder / f"{name}.svg"
            write_bytes(path, draw(result[name]["rows"]))
            found.append(path)
    return found


def _parity(rows: list[dict[str, Any]]) -> bytes:
    single = [row for row in rows if row["islands"] == 1]
    charts = []
    for row in (row for row in reversed(single) if row["published"] is not None):
        # Up to the paper's larger machine, and closer to its smaller one.
        most = row["hosts"] if row is single[-1] else 4 * row["hosts"]
        mine = [other for other in single if other["hosts"] <= most]
        names = (("calls", "one-node calls", "s0"), ("chained", "chains of 128 nodes", "s1"))
        charts.append(
            Chart(
                f"up to {most} hosts: ms of a computation",
                "",
                tuple(_line(mine, "hosts", *name) for name in names),
                low=0.0,
                reference=(f"the paper: {row['published']:g} ms", row["published"]),
                unit="hosts",
            )
        )
    return figure("The shortest computation that keeps all devices busy", charts)


def _order(rows: list[dict[str, Any]]) -> bytes:
    charts = []
    for length in dict.fromkeys(row["length"] for row in rows):
        mine = [row for row in rows if row["length"] == length]
        names = (
            ("sequential", "sequential", "s1"),
            ("narrow", "parallel, window of 16", "s3"),
            ("parallel", "parallel", "s0"),
            ("ideal", "devices alone", "s2"),
        )
        lines = tuple(_line(mine, "stages", *name) for name in names)
        charts.append(Chart(f"stages of {length:g} ms: ms", "", lines, low=0.0, unit="stages"))
    return figure("Batches through stages on hosts of their own", charts)


def _islands(rows: list[dict[str, Any]]) -> bytes:
    groups = []
    for row in rows:
        where = f"{row['islands']} islands of {row['devices'] // row['islands']:,}"
        words = "one piece" if row["chunks"] == 1 else f"{row['chunks']} pieces, while computing"
        if row["fitted"]:
            words += " (fitted)"
        bars = [Bar(words, 100 * row["of_one"], f"{100 * row['of_one']:.1f} %")]
        if row["published"] is not None:
            shown = f"{100 * row['published']:.4g} %"
            bars.append(Bar("the paper", 100 * row["published"], shown, kind="s2"))
        name = f"{row['model']} on {where}"
        if groups and groups[-1][0] == name:
            groups[-1][1].extend(bars)
        else:
            groups.append((name, bars))
    return bar_figure("Throughput over one island with as many devices", groups)


def _pipeline(rows: list[dict[str, Any]]) -> bytes:
    groups = []
    for row in rows:
        islands = "1 island" if row["islands"] == 1 else f"{row['islands']} islands"
        name = f"{row['devices']} devices, {islands}: S={row['stages']}, M={row['micro_batches']}"
        each = 1e3 * row["devices"]
        words = "simulated (fitted)" if row["fitted"] else "simulated"
        bars = [
            Bar(words, row["tokens"] / each, f"{row['tokens'] / 1e3:.1f} k/s"),
            Bar("window of 16", row["narrow"] / each, f"{row['narrow'] / 1e3:.1f} k/s", kind="s3"),
            Bar("the paper", row["published"] / each, f"{row['published'] / 1e3:.1f} k/s",
                kind="s2"),
        ]  # fmt: skip
        groups.append((name, bars))
    return bar_figure("Tokens a second of a 3B decoder; bars are per device", groups)


def _control(rows: list[dict[str, Any]]) -> bytes:
    names = (
        ("lower", "lowering, once", "s1"),
        ("trace", "tracing, once", "s2"),
        ("alternating", "dispatch, islands in turn", "s3"),
        ("dispatch", "dispatch", "s0"),
    )
    lines = tuple(_line(rows, "devices", *name) for name in names)
    chart = Chart("µs a node", "", lines, low=0.0, unit="devices")
    return figure("The controller's own real time", [chart])


def _line(rows: list[dict[str, Any]], x: str, key: str, name: str, kind: str) -> Series:
    return Series(name, kind, tuple(sorted((float(row[x]), row[key]) for row in rows)))


_DRAWINGS = {
    "parity": _parity,
    "order": _order,
    "islands": _islands,
    "pipeline": _pipeline,
    "control": _control,
}
