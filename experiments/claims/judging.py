"""Questions answered by records: values by seed, paired differences, verdicts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from ..compare.statistics import Interval, mean_interval, paired_difference
from .claim import Claim, Question, Side
from .records import Record
from .verdict import Verdict, judge, overall

Records = Mapping[str, Sequence[Record]]  # by arm


@dataclasses.dataclass(frozen=True)
class Answer:
    """What records say of a question.

    Attributes:
        question: as asked.
        left, right: means over the seeds of either side; None where there are none.
        difference: `left` less `right`, paired by seed; None where no seed has both.
        seeds: that count.
        verdict: of it.
    """

    question: Question
    left: Interval | None
    right: Interval | None
    difference: Interval | None
    seeds: tuple[int, ...]
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A claim with its answers."""

    claim: Claim
    answers: tuple[Answer, ...]
    verdict: Verdict


def judge_claim(claim: Claim, records: Records, step_seconds: Mapping[str, float]) -> Judgement:
    """All questions of a claim.

    Args:
        claim: to judge.
        records: by arm, those that count for it (`of_claim`).
        step_seconds: by arm, what a training step takes, measured side by side.
    """
    answers = tuple(_answer(q, records, step_seconds) for q in claim.questions)
    return Judgement(claim, answers, overall([answer.verdict for answer in answers]))


def of_claim(claim: Claim, records: Records) -> Records:
    """What counts for a claim: its planned seeds, and later ones that all arms have which it
    compares. (Arms that other claims share may have more.)"""
    own = {arm: records[arm] for arm in claim.arms if arm in records}
    seeds = [{record.seed for record in own.get(arm, ())} for arm in claim.compared]
    count = set(claim.seeds) | set.intersection(*seeds)
    return {arm: [r for r in rows if r.seed in count] for arm, rows in own.items()}


def values_of(side: Side, records: Records, step_seconds: Mapping[str, float]) -> dict[int, float]:
    """A number by seed; seeds whose record lacks it are left out.

    `curve.seconds` is the run's steps at the arm's measured pace, `curve.at_seconds_of.ARM` the
    validation score when ARM's would have ended, and `curve.at_flops_of.ARM` the same by FLOPs,
    between two validations on a straight line.
    """
    found = {}
    for record in records.get(side.arm, ()):
        value = _value(side, record, records, step_seconds)
        if value is not None:
            found[record.seed] = value
    return found


def _answer(question: Question, records: Records, step_seconds: Mapping[str, float]) -> Answer:
    left = values_of(question.left, records, step_seconds)
    if isinstance(question.right, Side):
        right = values_of(question.right, records, step_seconds)
    else:
        right = dict.fromkeys(left, question.right)
    seeds = tuple(sorted(left.keys() & right.keys()))
    difference = paired_difference(left, right).interval if seeds else None
    return Answer(
        question,
        mean_interval([left[s] for s in seeds]) if seeds else None,
        mean_interval([right[s] for s in seeds]) if seeds else None,
        difference,
        seeds,
        judge(question, difference),
    )


def _value(
    side: Side, record: Record, records: Records, step_seconds: Mapping[str, float]
) -> float | None:
    *_, kind, other = ("", "", *side.key.split("."))
    pace = step_seconds.get(side.arm)
    if side.key == "curve.seconds":
        return record.curve[-1][0] * pace if pace and record.curve else None
    if not side.key.startswith("curve.at_"):
        return record.numbers.get(side.key)
    base = next((r for r in records.get(other, ()) if r.seed == record.seed), None)
    if base is None or not base.curve or not record.curve:
        return None
    if kind == "at_flops_of":
        return _at([(x, y) for _, x, y in record.curve], base.curve[-1][1])
    theirs = step_seconds.get(other)
    if pace is None or theirs is None:
        return None
    return _at([(step * pace, y) for step, _, y in record.curve], base.curve[-1][0] * theirs)


def _at(points: Sequence[tuple[float, float]], x: float) -> float:
    """On the broken line through the points; before the first and after the last, theirs."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]
