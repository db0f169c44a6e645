"""Line charts as inline SVG: no script, colours from the page's style sheet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup, escape

# The drawing's own units; the page scales it to the width that there is.
WIDTH, HEIGHT = 270, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 8, 20
# More points than this are averaged in runs: they would not be told apart.
_MOST = 200
# Strips that answer the pointer with their numbers.
_STRIPS = 60


@dataclasses.dataclass(frozen=True)
class Series:
    """One line.

    Attributes:
        name: in the legend.
        kind: its class in the style sheet (`image`, `text`, `one`, `two`).
        points: (x, value), by x.
        band: (x, low, high), by x, around the line; empty is none.
    """

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float, float], ...] = ()

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over the steps of training, with everything that a caption needs.

    Attributes:
        title: what is drawn.
        note: how to read it, in a few words.
        series: the lines, none of them empty.
        percent: values are fractions, shown in per cent.
        low, high: ends of the axis; None is where the values end.
        reference: a level to compare with, and its name.
        unit: of x.
    """

    title: str
    note: str
    series: tuple[Series, ...]
    percent: bool = False
    low: float | None = None
    high: float | None = None
    reference: tuple[str, float] | None = None
    unit: str = "step"

    def text(self, value: float) -> str:
        """A value as the chart shows it."""
        return f"{100 * value:.1f} %" if self.percent else number(value)

    @property
    def svg(self) -> Markup:
        """The drawing."""
        return _draw(self)

    @property
    def summary(self) -> str:
        """The drawing in words, for those who do not see it."""
        parts = [
            f"{s.name} goes from {self.text(s.points[0][1])} to {self.text(s.last)}"
            for s in self.series
        ]
        end = number(self.series[0].points[-1][0])
        return f"{self.title}: {'; '.join(parts)}, at {self.at(end)}."

    def at(self, x: str) -> str:
        """A place on the axis: `step 20`, but `20 seconds`."""
        return f"step {x}" if self.unit == "step" else f"{x} {self.unit}"


def number(value: float | int) -> str:
    """A number in at most five characters or so.

    Examples:
        >>> [number(v) for v in (0.0, 1200, 12.345, 0.01234, 0.00002, 25000, 7.0)]
        ['0', '1,200', '12.3', '0.0123', '2e-05', '25,000', '7']
    """
    if value == 0 or (abs(value) >= 100 and abs(value) < 1e7):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round values that lie in [low, high], about `count` of them.

    Examples:
        >>> ticks(0.0, 1.0)
        [0.0, 0.25, 0.5, 0.75, 1.0]
        >>> ticks(3.1, 4.9)
        [3.5, 4.0, 4.5]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def thin(points: Sequence[tuple[float, float]], most: int = _MOST) -> list[tuple[float, float]]:
    """At most `most` points: runs of neighbours are averaged, and keep their last step."""
    size = -(-len(points) // most)
    if size <= 1:
        return list(points)
    runs = [points[i : i + size] for i in range(0, len(points), size)]
    return [(run[-1][0], sum(y for _, y in run) / len(run)) for run in runs]


def _thin_band(
    band: tuple[tuple[float, float, float], ...],
) -> list[tuple[float, float, float]]:
    """As `thin` does it with the band's line."""
    lows, highs = thin([(x, low) for x, low, _ in band]), thin([(x, high) for x, _, high in band])
    return [(x, low, high) for (x, low), (_, high) in zip(lows, highs, strict=True)]


def _draw(chart: Chart) -> Markup:
    lines = [thin(s.points) for s in chart.series]
    xs = [x for line in lines for x, _ in line]
    ys = [y for line in lines for _, y in line]
    bands = [_thin_band(s.band) for s in chart.series]
    ys += [y for band in bands for _, *ends in band for y in ends]
    if chart.reference:
        ys.append(chart.reference[1])
    low = min(ys) if chart.low is None else min(chart.low, *ys)
    high = max(ys) if chart.high is None else max(chart.high, *ys)
    if high <= low and chart.low is not None:
        high = low + 1.0
    elif high <= low:
        low, high = low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)
    if chart.high is None:
        # Air above the line, and room for words above a level that is highest.
        named = chart.reference is not None and chart.reference[1] == high
        high += (high - low) * (0.14 if named else 0.05)
    last = max(xs)

    def x_of(x: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (x / last if last else 1.0)

    def y_of(y: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - y) / (high - low)

    parts = [Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        WIDTH, HEIGHT, chart.summary
    )]  # fmt: skip
    parts += _axes(chart, ticks(low, high), ticks(0.0, last) if last else [0.0], x_of, y_of)
    if chart.reference:
        parts.append(_reference(*chart.reference, lines, y_of))
    for series, band in zip(chart.series, bands, strict=True):
        if band:
            edge = [(x, low) for x, low, _ in band] + [(x, high) for x, _, high in band[::-1]]
            path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in edge)
            parts.append(Markup('<polygon class="band {}" points="{}"/>').format(series.kind, path))
    for series, line in zip(chart.series, lines, strict=True):
        path = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in line)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(series.kind, path))
        x, y = line[-1]
        parts.append(
            Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
                series.kind, x_of(x), y_of(y)
            )
        )
    parts += _strips(chart, lines, x_of)
    return Markup("").join([*parts, Markup("</svg>")])


def _reference(name: str, value: float, lines, y_of) -> Markup:
    """A level, named at the end where the lines are further away from it."""
    y = y_of(value)
    first, last = (min(abs(y_of(line[end][1]) - y) for line in lines) for end in (0, -1))
    x, anchor = (_LEFT + 4, "start") if first > last else (WIDTH - _RIGHT, "end")
    return Markup(
        '<line class="reference" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
        '<text class="reference" x="{}" y="{:.1f}" text-anchor="{}">{}</text>'
    ).format(_LEFT, WIDTH - _RIGHT, y, y, x, y - 4, anchor, name)


def _axes(chart: Chart, levels, steps, x_of, y_of) -> list[Markup]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for level in levels:
        words = f"{100 * level:.4g} %" if chart.percent else number(level)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            ).format(_LEFT, right, y_of(level), y_of(level), _LEFT - 5, y_of(level) + 3.5, words)
        )
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
            _LEFT, right, bottom, bottom
        )
    )
    first = chart.at("0")
    for step in steps:
        if 0 < x_of(step) - _LEFT < 5.6 * len(first) + 10:
            # It would touch the first label.
            continue
        # A label at the very end would be cut off; the first one says what is counted.
        anchor = "end" if x_of(step) > right - 12 else "middle" if step else "start"
        parts.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
                x_of(step), bottom + 14, anchor, number(step) if step else first
            )
        )
    return parts


def _strips(chart: Chart, lines: list[list[tuple[float, float]]], x_of) -> list[Markup]:
    """Invisible strips, whose native tooltip gives the numbers of all lines at a step."""
    found: dict[float, list[str]] = {}
    for series, line in zip(chart.series, lines, strict=True):
        for x, y in line:
            found.setdefault(x, []).append(f"{series.name} {chart.text(y)}")
    xs = sorted(found)
    xs = xs[:: -(-len(xs) // _STRIPS)]
    parts = []
    for i, x in enumerate(xs):
        left = _LEFT if i == 0 else (x_of(xs[i - 1]) + x_of(x)) / 2
        right = WIDTH - _RIGHT if i == len(xs) - 1 else (x_of(x) + x_of(xs[i + 1])) / 2
        parts.append(
            Markup(
                '<g class="strip"><rect x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
                '<line x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/><title>{}</title></g>'
            ).format(
                left, _TOP, right - left, HEIGHT - _TOP - _BOTTOM,
                x_of(x), x_of(x), _TOP, HEIGHT - _BOTTOM,
                Markup("\n").join(map(escape, [chart.at(number(x)), *found[x]])),
            )
        )  # fmt: skip
    return parts
