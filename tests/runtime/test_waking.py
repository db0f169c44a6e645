"""Which branches share a node: neighbours in length, where that pads them by little."""

import numpy as np
import pytest
from byways.runtime import awake_groups, ladder
from byways.runtime.waking import node_sizes


def groups(counts, homes=1, together=2):
    found = awake_groups(np.array(counts), ladder(256), homes, together)
    return [(group.home, group.branches, group.bucket) for group in found]


def test_neighbours_in_length_share_a_node():
    """60, 57, 41 and 36 rows: buckets 64, 64, 48 and 40. 2 * 48 is over 17/16 of 48 + 40."""
    assert groups([41, 60, 36, 0, 57]) == [(0, (1, 4), 64), (0, (0,), 48), (0, (2,), 40)]


def test_a_bucket_may_be_one_rung_too_high_where_that_is_little():
    """250 and 240 rows: buckets 256 and 240, and 512 is within 17/16 of 496."""
    assert groups([240, 250]) == [(0, (1, 0), 256)]
    # 41 and 33 rows: 48 and 40, and twice 48 is more than 17/16 of 88.
    assert groups([41, 33]) == [(0, (0,), 48), (0, (1,), 40)]


def test_few_rows_share_a_node_whatever_their_length():
    """Up to 32 rows: four, then two of what is left, then one."""
    assert groups([9, 1, 30, 2, 8, 7, 3], together=4) == [
        (0, (2, 0, 4, 5), 32),
        (0, (6, 3), 8),
        (0, (1,), 8),
    ]


def test_those_left_over_have_nodes_of_their_own():
    assert groups([8, 8, 8, 8, 8], together=4) == [(0, (0, 1, 2, 3), 8), (0, (4,), 8)]


@pytest.mark.parametrize("homes", [1, 2, 3])
@pytest.mark.parametrize("together", [1, 2, 4])
def test_everyone_awake_runs_once_at_home_and_fits(homes, together):
    counts = np.random.default_rng(0).integers(0, 40, 24) * np.arange(24).clip(0, 1)
    found = awake_groups(counts, ladder(256), homes, together)
    assert sorted(b for group in found for b in group.branches) == np.flatnonzero(counts).tolist()
    ends = np.cumsum(counts)
    for group in found:
        assert len(group.branches) in node_sizes(group.bucket, together)
        for branch, (begin, end) in zip(group.branches, group.spans, strict=True):
            assert branch % homes == group.home
            assert (begin, end) == (ends[branch] - counts[branch], ends[branch])
            assert end - begin <= group.bucket


def test_nobody_is_awake():
    assert groups([0, 0, 0]) == []
