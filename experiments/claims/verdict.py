"""What the differences over seeds say of a question, and the questions of a claim.

Intervals are of 95 %, by Student's t over seeds of paired differences. A margin, the smallest
difference that matters, is fixed before the runs; an interval inside of ±margin shows that there is
no difference that matters (two one-sided tests at 2.5 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ..compare.statistics import Interval
from .claim import Question

Verdict = Literal[
    "holds", "does not hold at this scale", "no difference within the margin", "undecided"
]
# From the worst for a claim.
_ORDER: tuple[Verdict, ...] = (
    "does not hold at this scale",
    "no difference within the margin",
    "undecided",
    "holds",
)


def judge(question: Question, found: Interval | None) -> Verdict:
    """The verdict on a question.

    | kind | holds | no difference | does not hold | else |
    |---|---|---|---|---|
    | larger | low > 0, and not all within ±margin | within ±margin | high < margin | undecided |
    | not worse | low > -margin | | high < -margin | undecided |
    | differs | 0 is outside, and not all within ±margin | within ±margin | | undecided |

    Args:
        question: with its margin.
        found: of the differences; None where fewer than two seeds are there.

    Examples:
        >>> from byways.experiments.claims.claim import Side
        >>> more = Question("q", "", Side("a", "x"), Side("b", "x"), margin=0.01)
        >>> [judge(more, Interval(m, m - 0.01, m + 0.01, 3)) for m in (0.05, 0.005, 0.0, -0.05)]
        ['holds', 'undecided', 'undecided', 'does not hold at this scale']
        >>> judge(more, Interval(0.001, -0.004, 0.006, 3))
        'no difference within the margin'
    """
    if found is None or found.low is None or found.high is None:
        return "undecided"
    low, high, margin = found.low, found.high, question.margin
    if question.kind == "not worse":
        if low > -margin:
            return "holds"
        return "does not hold at this scale" if high < -margin else "undecided"
    if -margin < low and high < margin:
        return "no difference within the margin"
    if question.kind == "differs":
        return "holds" if low > 0 or high < 0 else "undecided"
    if low > 0:
        return "holds"
    return "does not hold at this scale" if high < margin else "undecided"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim: the worst of its questions'. All must hold.

    Examples:
        >>> overall(["holds", "undecided"]), overall(["holds", "holds"])
        ('undecided', 'holds')
    """
    return min(verdicts, key=_ORDER.index) if verdicts else "undecided"
