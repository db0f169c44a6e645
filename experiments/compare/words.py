"""Numbers of a comparison in words, for every table alike."""

from __future__ import annotations

from ..report.charts import number
from .comparing import Cell, Comparison, Difference
from .metrics import is_share, title
from .statistics import Interval

INTERVALS = (
    "Means ± half of the 95 % interval over seeds, by Student's t: of 20 such intervals, 19 hold "
    "the true mean if seeds spread normally."
)
DIFFERENCES = (
    "Less the baseline, with 95 % interval and two-sided p: of pairs of the same seed, or by "
    "Welch's t (marked W) where fewer than two seeds are shared. * marks intervals that leave out "
    "zero."
)


def heading(key: str) -> str:
    """Of a column."""
    return f"{title(key)} (%)" if is_share(key) else title(key)


def value_text(key: str, value: float) -> str:
    """One value, without its unit."""
    return f"{100 * value:.1f}" if is_share(key) else number(value)


def mean_text(key: str, interval: Interval | None) -> str:
    """A mean with what stands behind ±.

    Examples:
        >>> mean_text("scores.top1", Interval(0.5, 0.48, 0.52, 3))
        '50.0 ± 2.0'
        >>> mean_text("flops", Interval(2e12, None, None, 1))
        '2e+12'
    """
    if interval is None:
        return "–"
    mean = value_text(key, interval.mean)
    return mean if interval.half is None else f"{mean} ± {value_text(key, interval.half)}"


def difference_text(key: str, found: Difference | None) -> str:
    """A difference with its interval, p, how it was found, and of how many pairs."""
    if found is None:
        return "–"
    interval = found.interval
    mean = _signed(key, interval.mean)
    if interval.low is None or interval.high is None:
        return f"{mean} (one seed)" if found.how == "paired" else f"{mean} (too few seeds)"
    ends = f"[{_signed(key, interval.low)}, {_signed(key, interval.high)}]"
    how = f"{len(found.seeds)} pairs" if found.how == "paired" else "W"
    return f"{mean} {ends} {p_text(found.p)}, {how}{' *' if found.clear else ''}"


def p_text(p: float | None) -> str:
    """A p value.

    Examples:
        >>> p_text(0.0123), p_text(0.0), p_text(0.5)
        ('p 0.012', 'p < 0.001', 'p 0.50')
    """
    if p is None:
        return ""
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
    many = sum(d is not None and d.p is not None for d in rows)
    if many < 2:
        return None
    return (
        f"{many} differences are tested here: of so many without any true difference, about "
        f"{number(round(many * 0.05, 1))} would be marked by chance."
    )


def _signed(key: str, value: float) -> str:
    text = value_text(key, value)
    return text if text.startswith("-") or value == 0 else f"+{text}"
