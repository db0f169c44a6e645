"""The reliability diagram: how sure a model says it is, against how often it is right."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from .summary import percent

WIDTH, HEIGHT = 300, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 40
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclasses.dataclass(frozen=True)
class Reliability:
    """One diagram, with what its caption says.

    Attributes:
        title: whose answers.
        error: expected calibration error, a fraction.
        confidence, accuracy: means over all answers.
        count: answers.
        bins: as of `ClassScores.reliability`.
    """

    title: str
    error: float
    confidence: float
    accuracy: float
    count: int
    bins: tuple[dict[str, Any], ...]

    @property
    def svg(self) -> Markup:
        """The drawing: a dot a bin, its area by the answers in it; the diagonal is honesty."""
        return _draw(self)

    @property
    def verdict(self) -> str:
        """The diagram in a sentence."""
        gap = self.confidence - self.accuracy
        if abs(gap) < 0.02:
            word = "It claims about as much as it keeps"
        else:
            word = "It boasts" if gap > 0 else "It is too modest"
        return (
            f"{word}: on average it is {percent(self.confidence)} sure, and it is right "
            f"{percent(self.accuracy)} of the time."
        )


def of_bins(title: str, bins: Sequence[dict[str, Any]], error: float) -> Reliability:
    """A diagram from its bins, whose means follow from them.

    Args:
        title: whose answers.
        bins: at least one.
        error: expected calibration error.
    """
    count = sum(one["count"] for one in bins)
    confidence = sum(one["count"] * one["confidence"] for one in bins) / count
    accuracy = sum(one["count"] * one["accuracy"] for one in bins) / count
    return Reliability(title, error, confidence, accuracy, count, tuple(bins))


def zero_shot_reliability(
    results: dict[str, Any], names: dict[str, str], artist: str = "noto"
) -> tuple[Reliability, ...]:
    """Diagrams of an artist's drawings: known and held-out things; none of older results.

    Args:
        results: the contents of `results.json`.
        names: shares of the drawings -> their titles, in the order of the page.
        artist: whose drawings.
    """
    entries = results.get("calibration", {})
    shares = entries.get(artist, {}) if isinstance(entries, dict) else {}
    return tuple(
        of_bins(title, shares[share]["bins"], shares[share]["error"])
        for share, title in names.items()
        if share in shares
    )


def _draw(chart: Reliability) -> Markup:
    def x_of(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value

    def y_of(value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - value)

    parts = [
        Markup('<svg class="reliable" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
            WIDTH, HEIGHT, f"{chart.title}: {chart.verdict}"
        )
    ]
    bottom = HEIGHT - _BOTTOM
    for tick in _TICKS:
        name = f"{100 * tick:.0f} %"
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text x="{}" y="{:.1f}" text-anchor="end">{name}</text>'
                '<text x="{:.1f}" y="{}" text-anchor="{}">{name}</text>'
            ).format(
                _LEFT, WIDTH - _RIGHT, _LEFT - 6, y_of(tick) + 4, x_of(tick), bottom + 16,
                "end" if tick == 1 else "middle", y=y_of(tick), name=name,
            )
        )  # fmt: skip
    parts.append(
        Markup(
            '<line class="axis" x1="{l}" x2="{r}" y1="{b}" y2="{b}"/>'
            '<line class="reference" x1="{l}" y1="{b}" x2="{r}" y2="{t}"/>'
            '<text class="side" x="{:.1f}" y="{:.1f}">more right than sure</text>'
            '<text class="side" x="{r}" y="{:.1f}" text-anchor="end">more sure than right</text>'
            '<text x="{:.1f}" y="{}" text-anchor="middle">how sure it says it is</text>'
        ).format(
            _LEFT + 8, _TOP + 14, bottom - 10, x_of(0.5), HEIGHT - 5,
            l=_LEFT, r=WIDTH - _RIGHT, b=bottom, t=_TOP,
        )
    )  # fmt: skip
    most = max(one["count"] for one in chart.bins)
    for one in chart.bins:
        words = (
            f"{one['count']:,} answers, {percent(one['confidence'])} sure: "
            f"{percent(one['accuracy'])} of them right"
        )
        # No line from dot to dot: a heap of one or two answers would seem to say much.
        parts.append(
            Markup('<line class="gap" x1="{x:.1f}" x2="{x:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                y_of(one["accuracy"]), y_of(one["confidence"]), x=x_of(one["confidence"])
            )
        )
        parts.append(
            Markup(
                '<circle class="dot one" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title>'
                "</circle>"
            ).format(
                x_of(one["confidence"]),
                y_of(one["accuracy"]),
                2 + 7 * math.sqrt(one["count"] / most),
                words,
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])
