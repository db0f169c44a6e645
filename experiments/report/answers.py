"""Nearest names for test drawings, right and wrong, from `predictions.json`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from .pictures import data_address

if TYPE_CHECKING:
    from ...datasets import Examples

# Of each of: known and right, known and wrong, held out and right, held out and wrong.
_EACH = 6


@dataclasses.dataclass(frozen=True)
class Guess:
    """A name that the model considered.

    Attributes:
        name: of the list.
        score: cosine.
        width: of its bar, per cent of the best.
        right: it is the drawing's own.
    """

    name: str
    score: float
    width: float
    right: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """One drawing and what it was taken for.

    Attributes:
        picture: `data:` address.
        label: what it shows.
        held_out: the concept was in no training picture and no training caption.
        rank: of the right name, 1 is first.
        guesses: the five nearest.
    """

    picture: str
    label: str
    held_out: bool
    rank: int
    guesses: tuple[Guess, ...]


def sample_answers(
    predictions: dict[str, Any], examples: Examples, artist: str = "noto"
) -> tuple[Answer, ...]:
    """Drawings of an artist, drawn by lot from right and wrong, known and held out, in turn.

    A kind with too few drawings is filled up from the others.

    Args:
        predictions: the contents of `predictions.json`.
        examples: `emoji_art`, whose rows the predictions name.
        artist: whose drawings.
    """
    found = predictions.get("artists", {}).get(artist)
    if not found:
        return ()
    names = predictions["names"]
    ids, concepts = np.array(found["id"]), np.array(found["concept"])
    # Rows of another version of the data set would show the wrong drawings.
    inside = (ids >= 0) & (ids < len(examples))
    same = inside & (examples.concept[np.where(inside, ids, 0)] == concepts)
    right, held_out = np.array(found["rank"]) == 0, np.array(found["held_out"], bool)
    order = np.random.default_rng(0).permutation(np.flatnonzero(same))
    chosen: list[int] = []
    for share in (~held_out, held_out):
        for wanted in (share & right, share & ~right):
            chosen += [int(i) for i in order if wanted[i]][:_EACH]
    rest = [int(i) for i in order if int(i) not in set(chosen)]
    chosen += rest[: 4 * _EACH - len(chosen)]
    # Known before held out, right before wrong.
    chosen.sort(key=lambda i: (bool(held_out[i]), int(found["rank"][i]) > 0))
    return tuple(_answer(found, i, names, examples) for i in chosen)


def _answer(found: dict[str, Any], i: int, names: list[str], examples: Examples) -> Answer:
    scores = [float(s) for s in found["score"][i]]
    best = max([*scores, 1e-9])
    guesses = tuple(
        Guess(names[n], s, max(0.0, 100 * s / best), n == found["target"][i])
        for n, s in zip(found["top"][i], scores, strict=True)
    )
    return Answer(
        data_address(examples.images(np.array([found["id"][i]]))[0]),
        examples.concepts[found["concept"][i]].label,
        bool(found["held_out"][i]),
        int(found["rank"][i]) + 1,
        guesses,
    )
