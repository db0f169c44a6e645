"""Numbers of a comparison in words, for every table alike."""

from __future__ import annotations

import math

from ..report.charts import number
from .comparing import Cell, Comparison, Difference
from .metrics import COMPUTED, is_share, title
from .statistics import Interval

_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
INTERVALS = (
    "Means ± half of the 95 % interval over seeds, by Student's t: of 20 such intervals, 19 hold "
    "the true mean if seeds spread normally."
)
DIFFERENCES = (
    "Less the baseline, with 95 % interval and two-sided p: of n pairs of the same seed, or (W) by "
    "Welch's t where fewer than two seeds are shared. * marks intervals that leave out zero."
)


def heading(key: str) -> str:
    """Of a column."""
    return f"{title(key)} (%)" if is_share(key) else title(key)


def value_text(
    key: str, value: float, spread: float | None = None, like: float | None = None
) -> str:
    """One value, without the unit that the heading names.

    Args:
        key: of the metric.
        value: in its own unit.
        spread: half of an interval around it, whose first two digits are shown.
        like: a value whose prefix (T, G, …) it takes; its own by default.

    Examples:
        >>> value_text("scores.top1", 0.5), value_text("flops", 2.25e12)
        ('50.0', '2.25 T')
        >>> value_text("examples_per_second", 76.616), value_text("x", 76.616, 3.931)
        ('76.6', '76.6')
        >>> value_text("x", 1234.6, 30.0)
        '1,235'
    """
    if is_share(key):
        return f"{100 * value:.1f}"
    size, prefix = 1.0, ""
    if key == "flops":
        most = abs(value if like is None else like)
        size, prefix = next(((s, f" {p}") for s, p in _PREFIXES if most >= s), (1.0, ""))
    value /= size
    digits = 1 - math.floor(math.log10(spread / size)) if spread else None
    if digits is None or not 0 <= digits <= 6 or abs(value) >= 1e7:
        digits = 0 if digits is not None and digits < 0 and abs(value) < 1e7 else None
    return (number(value) if digits is None else f"{value:,.{digits}f}") + prefix


def mean_text(key: str, interval: Interval | None) -> str:
    """A mean with what stands behind ±.

    Examples:
        >>> mean_text("scores.top1", Interval(0.5, 0.48, 0.52, 3))
        '50.0 ± 2.0'
        >>> mean_text("validation.bits_per_byte", Interval(2.3456, 2.3256, 2.3656, 3))
        '2.346 ± 0.020'
        >>> mean_text("flops", Interval(2e12, None, None, 1))
        '2 T'
    """
    if interval is None:
        return "–"
    half = interval.half
    mean = value_text(key, interval.mean, half)
    if half is None or (half == 0 and key in COMPUTED):
        return mean
    return f"{mean} ± {value_text(key, half, half, interval.mean)}"


def difference_text(key: str, found: Difference | None) -> str:
    """A difference with its interval, p, how it was found, and of how many pairs."""
    parts = [mean_of(key, found), ends_of(key, found), test_of(found)]
    return " ".join(filter(None, parts)) + (" *" if found and found.clear else "")


def mean_of(key: str, found: Difference | None) -> str:
    """The difference itself."""
    return "–" if found is None else _signed(key, found.interval.mean, found.interval.half)


def ends_of(key: str, found: Difference | None) -> str:
    """Its interval; nothing where there is none, or where all seeds agree."""
    if found is None or not found.interval.half:
        return ""
    low, high, half = found.interval.low or 0.0, found.interval.high or 0.0, found.interval.half
    like = found.interval.mean
    return f"[{_signed(key, low, half, like)}, {_signed(key, high, half, like)}]"


def test_of(found: Difference | None) -> str:
    """Its p and of what, or why there is none."""
    if found is None:
        return ""
    if found.p is None:
        return "(one seed)" if found.how == "paired" else "(too few seeds)"
    if found.interval.half == 0:
        return "(all seeds alike)"
    return f"{p_text(found.p)}, {f'n={len(found.seeds)}' if found.how == 'paired' else 'W'}"


def p_text(p: float) -> str:
    """A p value.

    Examples:
        >>> p_text(0.0123), p_text(0.0), p_text(0.5)
        ('p 0.012', 'p < 0.001', 'p 0.50')
    """
    if p < 0.001:
        return "p < 0.001"
    return f"p {p:.2f}" if p >= 0.1 else f"p {p:.3f}"


def seeds_text(cell: Cell) -> str:
    """How many seeds count.

    Examples:
        >>> seeds_text(Cell({0: 1.0, 1: 2.0}, {2: "not finished"}, None))
        '2 of 3'
    """
    there, wanting = len(cell.values), len(cell.missing)
    return f"{there} of {there + wanting}" if wanting else str(there)


def chance_note(found: Comparison) -> str | None:
    """How many differences may well be clear by chance."""
    rows = [cell.difference for row in found.cells for cell in row.values()]
    many = sum(d is not None and bool(d.interval.half) for d in rows)
    if many < 2:
        return None
    return (
        f"{many} differences are tested here: of so many without any true difference, about "
        f"{number(round(many * 0.05, 1))} would be marked by chance."
    )


def _signed(key: str, value: float, spread: float | None, like: float | None = None) -> str:
    text = value_text(key, value, spread, like)
    return text if text.startswith("-") or value == 0 else f"+{text}"
