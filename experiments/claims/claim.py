"""What a claim is, as data: the runs that it needs, what is compared, and by how much it counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Arm:
    """A config that is trained once for each seed; claims share arms.

    Attributes:
        name: of its runs, with the seed behind it.
        says: what it is, in a table.
        preset: where its config starts.
        values: dotted keys of the config that differ from the preset.
        begins_with: the arm whose run of the same seed it begins with.
        upcycled: that run's weights are first grown into this sparse model.
    """

    name: str
    says: str
    preset: str
    values: Mapping[str, Any]
    begins_with: str | None = None
    upcycled: bool = False


@dataclasses.dataclass(frozen=True)
class Side:
    """A number of each run of an arm.

    Attributes:
        arm: its name.
        key: of the number in a run's record (docs/claims.md: how numbers are made).
    """

    arm: str
    key: str


@dataclasses.dataclass(frozen=True)
class Question:
    """One comparison of a claim: `left` less `right`, paired by seed.

    Attributes:
        name: short, unique in the claim.
        asks: the sentence that holds or does not.
        left: what is claimed to be larger (or, of `not worse`, not smaller by more than `margin`).
        right: what it is held against: another number, or a fixed one.
        margin: the smallest difference that matters in practice, in the number's unit.
        kind: `larger`, `not worse`, or `differs` (in whichever direction).
        unit: `points` shows fractions in per cent points; others are shown as they are.
    """

    name: str
    asks: str
    left: Side
    right: Side | float
    margin: float
    kind: Literal["larger", "not worse", "differs"] = "larger"
    unit: Literal["points", "nats", "ratio"] = "points"

    @property
    def sides(self) -> tuple[Side, ...]:
        """The numbers that it reads of runs."""
        return tuple(side for side in (self.left, self.right) if isinstance(side, Side))


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        name: as `byways claims NAME` has it.
        title: in a few words.
        source: paper and section.
        says: what the paper says.
        setting: what is done here, and how that differs from the paper.
        questions: all of which must hold.
        arms: that are trained for it, also for its pictures.
        seeds: planned, committed before the first run.
        pictures: names of what `pictures` draws.
        tables: keys of numbers that are shown beside the questions, with their titles.
    """

    name: str
    title: str
    source: str
    says: str
    setting: str
    questions: tuple[Question, ...]
    arms: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    pictures: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for question in self.questions:
            missing = {side.arm for side in question.sides} - set(self.arms)
            if missing:
                raise ValueError(f"{self.name}: {question.name} reads {sorted(missing)}, not its")

    @property
    def compared(self) -> tuple[str, ...]:
        """Arms that questions compare; tables and pictures show the others too."""
        return tuple(dict.fromkeys(side.arm for q in self.questions for side in q.sides))
