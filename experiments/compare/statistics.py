"""Means over seeds with their 95 % intervals by Student's t, and differences of two such means."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

LEVEL = 0.95
_ROUNDING = 1e-12
# Whose squares can still be added up.
_LARGEST = 1e150


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval, in the unit of the values.

    Attributes:
        mean: of the values.
        low, high: ends of the interval; None where there are fewer than two values.
        n: how many values.
        deviation: the sample's standard deviation (over n - 1); None with fewer than two.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    deviation: float | None = None

    @property
    def half(self) -> float | None:
        """Half of its width: what stands behind ±."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Paired:
    """The mean of differences between runs of the same seed.

    Attributes:
        interval: of the differences.
        p: two-sided, of the paired t-test against no difference; None with fewer than two pairs.
        seeds: that both sides have.
    """

    interval: Interval
    p: float | None
    seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Unpaired:
    """The difference of two means whose runs share no seed.

    Attributes:
        interval: by Welch's t; n is the number of values of both sides.
        p: two-sided, of Welch's test; None where a side has fewer than two values.
        freedom: Welch and Satterthwaite's degrees of freedom; None as `p`.
    """

    interval: Interval
    p: float | None
    freedom: float | None


def mean_interval(values: Sequence[float | int]) -> Interval:
    """The mean ± t(0.975, n - 1) · s / √n, with s the sample's standard deviation.

    Args:
        values: one for each seed.

    Raises:
        ValueError: there are none, or one is not finite.

    Examples:
        >>> found = mean_interval([1.0, 2.0, 3.0])
        >>> round(found.mean, 3), round(found.low, 3), round(found.high, 3)
        (2.0, -0.484, 4.484)
        >>> mean_interval([0.5])
        Interval(mean=0.5, low=None, high=None, n=1, deviation=None)
    """
    values = _finite(values)
    n = len(values)
    if n == 1:
        return Interval(values[0], None, None, 1)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if max(values) - min(values) <= _ROUNDING * max(map(abs, values)):
        # Exact: 0.3 - 0.2 and 0.4 - 0.3 differ by rounding alone, which is no spread over seeds.
        return Interval(values[0], values[0], values[0], n, 0.0)
    half = _quantile(n - 1) * deviation / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, deviation)


def paired_difference(a: Mapping[int, float | int], b: Mapping[int, float | int]) -> Paired:
    """`a` less `b`, seed by seed; seeds that only one side has are left out.

    What a seed does to both sides alike (order of the data, often the start) does not widen it.

    Args:
        a, b: seed to value.

    Raises:
        ValueError: no seed is shared, or a value of a shared one is not finite.

    Examples:
        >>> found = paired_difference({0: 2.0, 1: 4.0, 2: 9.0}, {0: 1.0, 1: 2.0, 3: 5.0})
        >>> found.interval.mean, found.seeds
        (1.5, (0, 1))
    """
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        raise ValueError(f"no seed is shared by {sorted(a)} and {sorted(b)}")
    interval = mean_interval([x - y for x, y in zip(*(_of(m, seeds) for m in (a, b)), strict=True)])
    if interval.deviation is None:
        return Paired(interval, None, seeds)
    error = interval.deviation / math.sqrt(interval.n)
    return Paired(interval, _p(interval.mean, error, interval.n - 1), seeds)


def welch_difference(a: Sequence[float | int], b: Sequence[float | int]) -> Unpaired:
    """Mean of `a` less mean of `b`, of unrelated runs whose spread may differ.

    Args:
        a, b: values of each side.

    Raises:
        ValueError: a side has no values, or one is not finite.

    Examples:
        >>> found = welch_difference([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
        >>> found.interval.mean, round(found.freedom, 2), round(found.p, 2)
        (-2.0, 2.94, 0.22)
    """
    a, b = _finite(a), _finite(b)
    n, mean = len(a) + len(b), statistics.fmean(a) - statistics.fmean(b)
    if len(a) < 2 or len(b) < 2:
        return Unpaired(Interval(mean, None, None, n), None, None)
    parts = [statistics.variance(side) / len(side) for side in (a, b)]
    total = sum(parts)
    if total == 0:
        freedom = float(n - 2)
        return Unpaired(Interval(mean, mean, mean, n), _p(mean, 0.0, freedom), freedom)
    freedom = total**2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True)
    )
    half = _quantile(freedom) * math.sqrt(total)
    p = _p(mean, math.sqrt(total), freedom)
    return Unpaired(Interval(mean, mean - half, mean + half, n), p, freedom)


def _of(values: Mapping[int, float | int], seeds: Sequence[int]) -> list[float]:
    for seed in seeds:
        if not math.isfinite(values[seed]):
            raise ValueError(f"the value of seed {seed} is {values[seed]}; it must be finite")
    return [float(values[seed]) for seed in seeds]


def _finite(values: Sequence[float | int]) -> list[float]:
    if len(values) == 0:
        raise ValueError("no values; a mean needs one at least")
    for place, value in enumerate(values):
        if value != value or abs(value) == math.inf:
            raise ValueError(f"value {place} of {len(values)} is {value}; it must be finite")
        if abs(value) > _LARGEST:
            raise ValueError(f"value {place} of {len(values)} is over {_LARGEST:g}")
    return [float(value) for value in values]


def _quantile(freedom: float | int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def _p(mean: float, error: float, freedom: float | int) -> float:
    """Two-sided. Differences that are all alike leave no doubt, or nothing to doubt."""
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(mean / error)))
