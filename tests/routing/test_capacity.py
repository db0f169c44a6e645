"""Capacity and group size, against numbers worked out by hand."""

import pytest
from byways.routing import expert_capacity, group_size


@pytest.mark.parametrize(
    ("tokens", "experts", "selected", "factor", "rounding", "multiple", "expected"),
    [
        (256, 8, 2, 1.05, "ceil", 1, 68),  # 256*2*1.05/8 = 67.2
        (256, 8, 2, 1.05, "round", 1, 67),
        (256, 8, 2, 1.05, "ceil", 4, 68),
        (34, 4, 2, 1.05, "ceil", 4, 20),  # 17.85 -> 18 -> 20, as in V-MoE's code
        (34, 4, 2, 1.05, "round", 4, 20),
        (10, 1, 1, 1.1, "ceil", 1, 10),  # exactly 11 (no float error), but T is 10
        (100, 10, 1, 1.1, "ceil", 1, 11),  # 100*1.1 is 110.00000000000001 in binary
        (10, 4, 1, 1.0, "round", 1, 2),  # 2.5 to the even number
        (34, 4, 2, 4.0, "ceil", 4, 36),  # 68, but 34 slots hold everything; up to a multiple
    ],
)
def test_by_hand(tokens, experts, selected, factor, rounding, multiple, expected):
    got = expert_capacity(
        tokens, experts, selected, factor, rounding=rounding, multiple_of=multiple
    )
    assert got == expected


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"factor": 0.0}, "factor=0.0"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"selected": 9}, "1 <= K <= E"),
        ({"factor": 0.01, "rounding": "round"}, "larger groups"),
        ({"multiple_of": 0}, "multiple_of=0"),
    ],
)
def test_bad_values_are_named(arguments, says):
    settings = {"num_tokens": 16, "num_experts": 8, "selected": 1, "factor": 1.0} | arguments
    with pytest.raises(ValueError, match=says):
        expert_capacity(**settings)


def test_group_size_is_the_largest_divisor_not_above_the_wish():
    for tokens in (1, 7, 12, 97, 3584):
        for wish in (1, 5, 12, 100, 5000):
            brute = max(d for d in range(1, tokens + 1) if tokens % d == 0 and d <= wish)
            assert group_size(tokens, wish) == brute
    with pytest.raises(ValueError, match="at least 1"):
        group_size(8, 0)
