"""Intervals and differences, against scipy's own tests and values from tables."""

import math

import numpy as np
import pytest
from byways.experiments.compare.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    welch_difference,
)

A = {0: 0.31, 1: 0.36, 2: 0.28, 3: 0.40}
B = {0: 0.25, 1: 0.33, 2: 0.27, 3: 0.31}


def test_the_quantiles_are_those_of_the_tables():
    # t(0.975) of 1, 2 and 4 degrees of freedom: 12.706, 4.303, 2.776.
    for n, t in ((2, 12.7062), (3, 4.30265), (5, 2.77645)):
        found = mean_interval([float(i) for i in range(n)])
        assert found.half == pytest.approx(t * found.deviation / math.sqrt(n), rel=1e-5)
        assert found.low < found.mean < found.high


def test_one_value_has_no_interval_and_equal_values_have_one_of_no_width():
    assert mean_interval([0.3]) == Interval(0.3, None, None, 1)
    assert mean_interval([0.3]).half is None
    assert mean_interval([0.1, 0.1, 0.1]) == Interval(0.1, 0.1, 0.1, 3, 0.0)
    same = paired_difference({0: 0.1, 1: 0.7}, {0: 0.1, 1: 0.7})
    assert (same.interval.low, same.interval.high, same.p) == (0.0, 0.0, 1.0)
    shifted = paired_difference({0: 2.0, 1: 3.0}, {0: 1.0, 1: 2.0})
    assert (shifted.interval.low, shifted.interval.high, shifted.p) == (1.0, 1.0, 0.0)
    assert welch_difference([1.0, 1.0], [2.0, 2.0]).interval.half == 0


def test_rounding_is_no_spread():
    # 0.3 - 0.2, 0.4 - 0.3 and 0.5 - 0.4 differ in their last bits.
    found = paired_difference({0: 0.3, 1: 0.4, 2: 0.5}, {0: 0.2, 1: 0.3, 2: 0.4})
    assert (found.interval.deviation, found.interval.half, found.p) == (0.0, 0.0, 0.0)


def test_pairs_agree_with_scipy():
    from scipy import stats

    found = paired_difference(A, B)
    theirs = stats.ttest_rel(list(A.values()), list(B.values()))
    ends = theirs.confidence_interval(0.95)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))
    assert (found.seeds, found.interval.n) == ((0, 1, 2, 3), 4)


def test_welch_agrees_with_scipy():
    from scipy import stats

    a, b = list(A.values()), [0.2, 0.5, 0.9]
    found, theirs = welch_difference(a, b), stats.ttest_ind(a, b, equal_var=False)
    ends = theirs.confidence_interval(0.95)
    assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df))
    assert (found.interval.low, found.interval.high) == pytest.approx((ends.low, ends.high))


def test_pairs_are_by_seed_whatever_their_order():
    found = paired_difference({2: 5.0, 0: 1.0, 9: 7.0}, {0: 0.0, 2: 3.0, 4: 1.0})
    assert (found.seeds, found.interval.mean) == ((0, 2), 1.5)
    lone = paired_difference({0: 1.0}, {0: 0.5})
    assert (lone.interval.mean, lone.interval.low, lone.p) == (0.5, None, None)
    assert welch_difference([1.0], [0.5, 0.6]).p is None


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="no seed is shared"):
        paired_difference({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="seed 1 is nan"):
        paired_difference({0: 1.0, 1: math.nan}, {0: 1.0, 1: 1.0})
    # A seed that does not pair is not looked at.
    assert paired_difference({0: 1.0, 1: math.nan}, {0: 1.0}).interval.mean == 0
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
    with pytest.raises(ValueError, match="value 1 of 2 is inf"):
        mean_interval([0.0, math.inf])
    with pytest.raises(ValueError, match="value 0 of 2 is over 1e"):
        mean_interval([10**400, 1])


def test_arrays_are_sequences_too():
    values = [0.25, 0.5, 1.0]
    assert mean_interval(np.array(values)) == mean_interval(values)
    assert welch_difference(np.array(values), values).interval.mean == 0
