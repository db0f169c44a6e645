"""What a comparison draws: intervals as rows of dots, and learning curves over groups of runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..report.charts import Chart, Series, ticks
from . import words
from .comparing import Comparison
from .curves import By, Curve
from .groups import Group
from .metrics import COMPUTED, is_share
from .reading import ReadRun

# Styles of lines in compare.css; more groups than that share them.
STYLES = 8
_WIDTH, _HEIGHT, _EDGE = 300, 22, 8
# An interval of two seeds may be a hundred times as wide as what they spread.
_WIDEST = 2.0

_TITLES = {
    "top1": "Validation score",
    "entropy": "Validation entropy, nats",
    "loss/contrastive": "Contrastive loss in training",
    "loss/cross_entropy": "Cross-entropy in training, nats",
}
_NOTES: dict[By, str] = {"step": "by step", "flops": "by training FLOPs", "seconds": "by time"}
_PREFIXES = ((1e18, "EFLOPs"), (1e15, "PFLOPs"), (1e12, "TFLOPs"), (1e9, "GFLOPs"))
_TIMES = ((3 * 3600.0, 3600.0, "hours"), (240.0, 60.0, "minutes"))


def style_of(place: int) -> str:
    """The class of a group's marks."""
    return f"g{place % STYLES}"


@dataclasses.dataclass(frozen=True)
class DotRow:
    """One group's row: its label, dots and interval, and the same in words."""

    label: str
    style: str
    svg: Markup
    text: str


@dataclasses.dataclass(frozen=True)
class DotPlot:
    """A metric's rows over one axis.

    Attributes:
        title: of the metric.
        rows: of the groups that have a value.
        axis: below them.
    """

    title: str
    rows: tuple[DotRow, ...]
    axis: Markup


def dot_plots(found: Comparison) -> tuple[DotPlot, ...]:
    """Of each metric that some group has."""
    plots = (_dot_plot(found, key) for key in found.metrics)
    return tuple(plot for plot in plots if plot.rows)


def curve_charts(groups: Sequence[Group]) -> tuple[tuple[str, tuple[Chart, ...]], ...]:
    """Validation and training curves, each by step, FLOPs and time; what was not logged is left
    out. Imports JAX, for the FLOPs.

    Returns:
        (title, three charts) of each.
    """
    curves = {id(run): run.curves() for group in groups for run in group.runs}
    found = []
    for which in (0, 1):
        own = {key: pair[which] for key, pair in curves.items()}
        charts = tuple(_chart(groups, own, by) for by in _NOTES)
        drawn = tuple(chart for chart in charts if chart is not None)
        if drawn:
            found.append((drawn[0].title, drawn))
    return tuple(found)


def mean_curve(name: str, style: str, curves: Sequence[Curve], by: By, scale: float) -> Series:
    """The mean of runs at the steps that all of them logged, in a band from lowest to highest.

    Args:
        name, style: of the line.
        curves: of a group's runs.
        by: what x is; of FLOPs and seconds the mean too.
        scale: that x is divided by.
    """
    common = set(curves[0].steps).intersection(*(curve.steps for curve in curves[1:]))
    maps = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    points, band = [], []
    for step in sorted(common):
        x = sum(curve.effort.at(step, by) for curve in curves) / len(curves) / scale
        values = [values[step] for values in maps]
        points.append((x, sum(values) / len(values)))
        band.append((x, min(values), max(values)))
    return Series(name, style, tuple(points), tuple(band) if len(curves) > 1 else ())


def _chart(groups: Sequence[Group], curves: Mapping[int, Curve], by: By) -> Chart | None:
    drawn = [curve for curve in curves.values() if curve.steps]
    if not drawn:
        return None
    scale, unit = _scale(by, max(curve.effort.at(curve.steps[-1], by) for curve in drawn))
    series: list[Series] = []
    for place, group in enumerate(groups):
        whole = [curves[id(run)] for run in group.runs if run.finished and curves[id(run)].steps]
        if whole:
            series.append(mean_curve(group.label, style_of(place), whole, by, scale))
        for run in group.runs:
            if not run.finished and curves[id(run)].steps:
                series.append(_unfinished(group, run, place, curves[id(run)], by, scale))
    series = [line for line in series if line.points]
    if not series:
        return None
    key = drawn[0].key
    percent = key == "top1"
    return Chart(
        _TITLES.get(key, key),
        _NOTES[by],
        tuple(series),
        percent=percent,
        low=0.0 if percent else None,
        unit=unit,
    )


def _unfinished(
    group: Group, run: ReadRun, place: int, curve: Curve, by: By, scale: float
) -> Series:
    name = f"{group.label}, seed {run.seed}, unfinished"
    return mean_curve(name, f"{style_of(place)} thin", [curve], by, scale)


def _scale(by: By, most: float) -> tuple[float, str]:
    if by == "flops":
        return next(((size, name) for size, name in _PREFIXES if most >= size), (1.0, "FLOPs"))
    if by == "seconds":
        found = ((size, name) for least, size, name in _TIMES if most >= least)
        return next(found, (1.0, "seconds"))
    return 1.0, "step"


def _dot_plot(found: Comparison, key: str) -> DotPlot:
    cells = [row[key] for row in found.cells]
    values = [value for cell in cells for value in cell.values.values()]
    if not values:
        return DotPlot(words.heading(key), (), Markup(""))
    low, high = _range(values, [cell.interval for cell in cells if cell.interval])
    if key in COMPUTED:
        # Of what training takes, differences of a thousandth should look like that.
        room = max(0.0, 0.2 * abs(max(values)) - (high - low)) / 2
        low, high = low - room, high + room

    def x_of(value: float) -> float:
        return _EDGE + (_WIDTH - 2 * _EDGE) * (value - low) / (high - low)

    rows = []
    for place, (group, cell) in enumerate(zip(found.groups, cells, strict=True)):
        if cell.interval is None:
            continue
        marks = _marks(cell.interval, list(cell.values.values()), x_of, style_of(place))
        text = words.mean_text(key, cell.interval)
        rows.append(DotRow(group.label, style_of(place), marks, text))
    return DotPlot(words.heading(key), tuple(rows), _axis(key, low, high, x_of))


def _range(values, intervals) -> tuple[float, float]:
    """Ends of the axis: the intervals', but no further away than the values allow."""
    low, high = min(values), max(values)
    span = (high - low) or abs(high) / 20 or 1.0
    ends = [end for i in intervals for end in (i.low, i.high) if end is not None]
    left = max(min([low, *ends]), low - _WIDEST * span)
    right = min(max([high, *ends]), high + _WIDEST * span)
    pad = (right - left) * 0.04 or span / 2
    return left - pad, right + pad


def _marks(interval, values: list[float], x_of, style: str) -> Markup:
    middle, parts = _HEIGHT / 2, []
    if interval.low is not None and interval.high is not None:
        left, right = max(x_of(interval.low), 0.0), min(x_of(interval.high), float(_WIDTH))
        parts.append(
            Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                left, right, middle, middle
            )
        )
        # An end without a cap goes on beyond the drawing.
        for x in (left, right):
            if 0 < x < _WIDTH:
                parts.append(
                    Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="6" y2="16"/>').format(
                        x, x
                    )
                )
    parts += [
        Markup('<circle class="seed" cx="{:.1f}" cy="{}" r="3"/>').format(x_of(value), middle)
        for value in values
    ]
    parts.append(
        Markup('<rect class="mean" x="{:.1f}" y="3" width="3" height="16" rx="1"/>').format(
            x_of(interval.mean) - 1.5
        )
    )
    return Markup('<svg class="{}" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        style, _WIDTH, _HEIGHT, Markup("").join(parts)
    )


def _axis(key: str, low: float, high: float, x_of) -> Markup:
    parts = [Markup('<line class="axis" x1="0" x2="{}" y1="1" y2="1"/>').format(_WIDTH)]
    texts = [
        (level, f"{100 * level:.4g}" if is_share(key) else words.value_text(key, level))
        for level in ticks(low, high)
    ]
    if len({text for _, text in texts}) < len(texts):
        # Levels that no number of few digits tells apart.
        texts = texts[:1]
    for level, text in texts:
        x = x_of(level)
        anchor = "start" if x < 20 else "end" if x > _WIDTH - 20 else "middle"
        parts.append(
            Markup(
                '<line class="axis" x1="{:.1f}" x2="{:.1f}" y1="1" y2="4"/>'
                '<text x="{:.1f}" y="16" text-anchor="{}">{}</text>'
            ).format(x, x, x, anchor, text)
        )
    return Markup('<svg viewBox="0 0 {} 20" aria-hidden="true">{}</svg>').format(
        _WIDTH, Markup("").join(parts)
    )
