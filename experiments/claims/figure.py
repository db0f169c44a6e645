"""Charts and bars put together into one SVG file that stands alone, in light and dark."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from markupsafe import Markup, escape

from ..report.charts import HEIGHT, WIDTH, Chart

# Classes that a series may have, as colours in light and dark.
KINDS = ("s0", "s1", "s2", "s3", "s4", "s5")
_LIGHT = ("#0f766e", "#c8560f", "#2467c9", "#c2408f", "#5a7d1e", "#7b3fb5")
_DARK = ("#4fc3b5", "#f19a55", "#6aa5f8", "#f08cc8", "#a3cc5a", "#b98cf0")
_GAP, _HEAD, _ROW, _MARGIN = 24, 50, 20, 14
# Width of a bar's words and of its number.
_WORDS, _NUMBER = 250, 110


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        words: before it.
        value: its length, 0 or more.
        shown: its number.
        low, high: ends of its interval, if it has one.
        kind: class of its colour.
    """

    words: str
    value: float
    shown: str
    low: float | None = None
    high: float | None = None
    kind: str = "s0"


def figure(title: str, charts: Sequence[Chart]) -> bytes:
    """Charts side by side under a title, with one legend for all."""
    names = {s.name: s.kind for chart in charts for s in chart.series}
    # One alone is drawn larger, so that its title and legend have room.
    wide, high = (WIDTH, HEIGHT) if len(charts) > 1 else (2 * WIDTH, 2 * HEIGHT)
    width = len(charts) * (wide + _GAP) - _GAP + 2 * _MARGIN
    rows, x, y = [], _MARGIN, _HEAD
    for name, kind in names.items():
        room = 26 + 6.4 * len(name)
        if x + room > width and x > _MARGIN:
            x, y = _MARGIN, y + _ROW
        rows.append(
            Markup('<rect class="key {}" x="{:.0f}" y="{}" width="12" height="12" rx="3"/>').format(
                kind, x, y - 10
            )
        )
        rows.append(
            Markup('<text class="words" x="{:.0f}" y="{}">{}</text>').format(x + 17, y, name)
        )
        x += room
    top = y + 26
    for place, chart in enumerate(charts):
        left = _MARGIN + place * (wide + _GAP)
        rows.append(
            Markup('<text class="name" x="{}" y="{}">{}</text>').format(left, top, chart.title)
        )
        rows.append(
            Markup('<svg x="{}" y="{}" width="{}" height="{}">{}</svg>').format(
                left, top + 8, wide, high, chart.svg
            )
        )
    return page(title, width, top + high + 16, rows)


def bar_figure(title: str, groups: Sequence[tuple[str, Sequence[Bar]]]) -> bytes:
    """Groups of bars, each under its name, all on one scale that starts at 0."""
    most = max((b.high or b.value for _, bars in groups for b in bars), default=0.0) or 1.0
    width, y, rows = 2 * (WIDTH + _MARGIN) + _GAP, _HEAD, []
    long = width - _WORDS - _NUMBER - 2 * _MARGIN
    for name, bars in groups:
        rows.append(text("name", _MARGIN, y, name))
        y += 8
        for bar in bars:
            left, middle = _MARGIN + _WORDS, y + _ROW / 2
            rows.append(
                Markup(
                    '<text class="words" x="{}" y="{}" text-anchor="end">{}</text>'
                    '<rect class="track" x="{}" y="{}" width="{}" height="12" rx="3"/>'
                    '<rect class="key {}" x="{}" y="{}" width="{:.1f}" height="12" rx="3"/>'
                    '<text class="words" x="{:.0f}" y="{}">{}</text>'
                ).format(
                    left - 8, middle + 4, bar.words, left, middle - 6, long, bar.kind, left,
                    middle - 6, max(1.0, long * bar.value / most), left + long + 8, middle + 4,
                    bar.shown,
                )
            )  # fmt: skip
            if bar.low is not None and bar.high is not None:
                ends = [left + long * max(0.0, end) / most for end in (bar.low, bar.high)]
                whisker = Markup('<line class="whisker" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>')
                rows.append(whisker.format(*ends, middle, middle))
            y += _ROW
        y += 26
    return page(title, width, y - 10, rows)


def text(kind: str, x: float | int, y: float | int, words: str) -> Markup:
    """Words at a place; `kind` is their class."""
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(kind, x, y, words)


def page(title: str, width: int, height: float | int, rows: Sequence[Markup]) -> bytes:
    """Rows of SVG as a file, under a title, with colours for light and dark."""
    light = "".join(f".{k}{{--hue:{c}}}" for k, c in zip(KINDS, _LIGHT, strict=True))
    dark = "".join(f".{k}{{--hue:{c}}}" for k, c in zip(KINDS, _DARK, strict=True))
    style = (
        ":root{--ink:#1c1d21;--soft:#5c5f66;--line:#dedcd5;--page:#fff;--track:#eceae4}"
        f"{light}@media(prefers-color-scheme:dark){{:root{{--ink:#e9e8e4;--soft:#a3a6ad;"
        f"--line:#34373d;--page:#131417;--track:#2b2e34}}{dark}}}"
        'text{font:11px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}'
        ".title{font-size:15px;font-weight:650;fill:var(--ink)}"
        ".name{font-size:12px;font-weight:600;fill:var(--ink)}.words{font-size:12px}"
        ".small,.credit{font-size:10.5px}.mark{fill:none;stroke:var(--hue,#2467c9);stroke-width:1.5}"
        "image{image-rendering:pixelated}"
        ".page{fill:var(--page)}.track{fill:var(--track)}.key{fill:var(--hue)}"
        ".whisker{stroke:var(--ink);stroke-width:2}.grid{stroke:var(--line)}"
        ".axis{stroke:var(--soft)}line.reference{stroke:var(--soft);stroke-dasharray:2 4}"
        "text.reference{font-style:italic}.line{fill:none;stroke:var(--hue);stroke-width:2}"
        ".dot{fill:var(--hue)}.band{fill:var(--hue);opacity:.16}"
        ".strip rect{fill:transparent}.strip line{opacity:0}"
    )
    head = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0} {1:.0f}" width="{0}" '
        'height="{1:.0f}" role="img" aria-label="{2}"><title>{2}</title><style>{3}</style>'
        '<rect class="page" width="{0}" height="{1:.0f}"/>'
        '<text class="title" x="{4}" y="24">{2}</text>'
    ).format(width, height, escape(title), Markup(style), _MARGIN)
    return (Markup("\n").join([head, *rows, Markup("</svg>\n")])).encode()
