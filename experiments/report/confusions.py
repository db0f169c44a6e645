"""What is most often taken for what, with pictures of both, from `predictions.json`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from .pictures import data_address

if TYPE_CHECKING:
    from ...datasets import Examples

_PAIRS = 12


@dataclasses.dataclass(frozen=True)
class Confused:
    """Two things that a model cannot well tell apart.

    Attributes:
        names: of both; the first is more often taken for the second than the other way round.
        pictures: `data:` addresses of both; empty where there is none.
        there, back: how often the first was taken for the second, and the second for the first.
    """

    names: tuple[str, str]
    pictures: tuple[str, str]
    there: int
    back: int


@dataclasses.dataclass(frozen=True)
class Families:
    """Right and wrong answers by the family of things.

    Attributes:
        names: of the families.
        rows: of each family (true), the share of its drawings named right, and the shares that
            were taken for another thing of each family, in the same order.
        counts: drawings of each.
        candidates: names of each that an answer may be.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[float, tuple[float, ...]], ...]
    counts: tuple[int, ...]
    candidates: tuple[int, ...]

    @property
    def at_home(self) -> float:
        """Of all mistakes, the part that stays in its family."""
        wrong = sum(self._wrong)
        home = sum(
            shares[i] * n
            for i, ((_, shares), n) in enumerate(zip(self.rows, self.counts, strict=True))
        )
        return home / wrong if wrong else 0.0

    @property
    def by_chance(self) -> float:
        """The same, if every mistake were a wrong name drawn by lot."""
        wrong, others = sum(self._wrong), max(1, sum(self.candidates) - 1)
        home = sum(
            w * max(0, own - 1) / others
            for w, own in zip(self._wrong, self.candidates, strict=True)
        )
        return home / wrong if wrong else 0.0

    @property
    def _wrong(self) -> list[float]:
        return [sum(shares) * n for (_, shares), n in zip(self.rows, self.counts, strict=True)]


def most_confused(
    mistakes: Sequence[tuple[int, int, float]],
    names: Sequence[str],
    picture: Callable[[int], UInt8[np.ndarray, "S S 3"] | None],
) -> tuple[Confused, ...]:
    """The pairs with most mistakes, both directions counted together.

    Args:
        mistakes: (true, answered, how sure) of each wrong answer; surety breaks ties.
        names: of all candidates.
        picture: of a candidate, or None.
    """
    ways = Counter((true, said) for true, said, _ in mistakes)
    sure: dict[tuple[int, int], float] = {}
    for true, said, how in mistakes:
        key = (min(true, said), max(true, said))
        sure[key] = sure.get(key, 0.0) + how
    both = {(a, b): ways[(a, b)] + ways[(b, a)] for a, b in sure}
    found = []
    for one, other in sorted(sure, key=lambda k: (-both[k], -sure[k], k))[:_PAIRS]:
        if ways[(one, other)] < ways[(other, one)]:
            one, other = other, one
        shown = [picture(one), picture(other)]
        addresses = ["" if image is None else data_address(image) for image in shown]
        found.append(
            Confused(
                (names[one], names[other]),
                (addresses[0], addresses[1]),
                ways[(one, other)],
                ways[(other, one)],
            )
        )
    return tuple(found)


def confused_names(
    predictions: dict[str, Any], examples: Examples, artists: Sequence[str]
) -> tuple[Confused, ...]:
    """Pairs of names that drawings of some artists are taken for.

    Args:
        predictions: the contents of `predictions.json`.
        examples: whose rows they name.
        artists: whose drawings; each has one of a thing, so that several are counted together.
    """
    mistakes: list[tuple[int, int, float]] = []
    rows: dict[int, int] = {}
    for artist in artists:
        found = predictions.get("artists", {}).get(artist)
        if not found or not _same(found, examples):
            continue
        for row, target in zip(found["id"], found["target"], strict=True):
            rows.setdefault(target, row)
        mistakes += [
            (target, top[0], score[0])
            for target, top, score, rank in zip(
                found["target"], found["top"], found["score"], found["rank"], strict=True
            )
            # Where several tie for the first place the right one may be shown first.
            if rank > 0 and top[0] != target
        ]

    def picture(name: int) -> UInt8[np.ndarray, "S S 3"] | None:
        return examples.images(np.array([rows[name]]))[0] if name in rows else None

    return most_confused(mistakes, predictions["names"], picture)


def confused_families(
    predictions: dict[str, Any], examples: Examples, artist: str
) -> Families | None:
    """Whether mistakes stay in the family (animals, food, …); None without families.

    A name's family is that of a thing that some artist of the predictions drew under it.
    """
    found = predictions.get("artists", {}).get(artist)
    if not found or not _same(found, examples):
        return None
    family: dict[int, str] = {}
    for entry in predictions["artists"].values():
        if _same(entry, examples):
            for target, concept in zip(entry["target"], entry["concept"], strict=True):
                family.setdefault(target, examples.concepts[concept].group)
    names = tuple(sorted({name for name in family.values() if name}))
    if len(names) < 2:
        return None
    place = {name: i for i, name in enumerate(names)}
    right, wrong = np.zeros(len(names)), np.zeros((len(names), len(names)))
    count = np.zeros(len(names), np.int64)
    for target, top, rank in zip(found["target"], found["top"], found["rank"], strict=True):
        mine, other = family.get(target, ""), family.get(top[0], "")
        if not mine or not other:
            continue
        count[place[mine]] += 1
        if rank == 0:
            right[place[mine]] += 1
        else:
            wrong[place[mine], place[other]] += 1
    many = np.maximum(count, 1)
    rows = tuple(
        (float(right[i] / many[i]), tuple((wrong[i] / many[i]).tolist())) for i in range(len(names))
    )
    of_family = Counter(family.values())
    return Families(names, rows, tuple(count.tolist()), tuple(of_family[name] for name in names))


def confused_classes(
    predictions: dict[str, Any], picture: Callable[[int], UInt8[np.ndarray, "S S 3"] | None]
) -> tuple[Confused, ...]:
    """The same of a classifier's predictions.

    Args:
        predictions: the contents of `predictions.json`.
        picture: row of the data set -> its picture.
    """
    rows: dict[int, int] = {}
    mistakes: list[tuple[int, int, float]] = []
    for row, label, top, score in zip(
        predictions["id"], predictions["label"], predictions["top"], predictions["score"],
        strict=True,
    ):  # fmt: skip
        if top[0] == label:
            # A picture that is known well shows what the class looks like.
            rows.setdefault(label, row)
        else:
            mistakes.append((label, top[0], score[0]))
    return most_confused(
        mistakes, predictions["classes"], lambda c: picture(rows[c]) if c in rows else None
    )


def _same(found: dict[str, Any], examples: Examples) -> bool:
    """Whether the predictions' rows are of these drawings."""
    ids, concepts = np.array(found["id"]), np.array(found["concept"])
    inside = (ids >= 0) & (ids < len(examples))
    return bool(inside.all() and (examples.concept[ids] == concepts).all())
