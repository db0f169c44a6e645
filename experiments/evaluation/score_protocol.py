"""What published evaluations do differently, as data: text, class names, pictures and ties."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from .metrics import label_ranks
from .text import CANONICAL

Names = Literal["first", "all", "whole"]
Ties = Literal["against", "index"]

_BUT_COMMAS = str.maketrans("", "", string.punctuation.replace(",", ""))


@dataclasses.dataclass(frozen=True)
class ScoreProtocol:
    """How zero-shot and retrieval scores are taken.

    Attributes:
        name: whose way.
        canonical: key of `CANONICAL`, for class names, templates and captions. Of `bare`, commas
            in class names stay.
        names: of a class that is written as several names with commas between, the `first`
            alone, `all` of them as further prompts, or the `whole` line as one name.
        templates: the set, unless another is named.
        resize: how pictures become the model's size; see `datasets.picture`.
        ties: of equal scores, `against` the model, or to the lower `index`, as argmax does.
        equal_captions: equal captions, of one image or several, are `one` text that describes
            all of them, or stay `apart`, each right for its own image alone.
    """

    name: str
    canonical: Literal["none", "lower", "bare"]
    names: Names
    templates: str
    resize: Literal["crop", "short_side", "squash", "central"]
    ties: Ties
    equal_captions: Literal["one", "apart"]

    def as_dict(self) -> dict[str, Any]:
        """For the result; the templates have an entry of their own there."""
        found = dataclasses.asdict(self)
        del found["templates"]
        return found

    def class_names(self, line: str) -> list[str]:
        """The canonical names of one class, distinct ones; empty where nothing is left."""
        text = CANONICAL["lower" if self.canonical == "bare" else self.canonical](line)
        if self.canonical == "bare":
            text = " ".join(text.translate(_BUT_COMMAS).split())
        if self.names == "whole":
            found = [text]
        else:
            found = text.split(",")[: 1 if self.names == "first" else None]
        return [name for name in dict.fromkeys(one.strip() for one in found) if name]

    def template(self, text: str) -> str:
        """A template in canonical form, its `{}` kept."""
        # A letter of nobody's stands for it meanwhile.
        return CANONICAL[self.canonical](text.replace("{}", "\ue000")).replace("\ue000", "{}")

    def caption(self, text: str) -> str:
        """A caption in canonical form."""
        return CANONICAL[self.canonical](text)


PROTOCOLS = {
    one.name: one
    for one in (
        ScoreProtocol("byways", "lower", "whole", "class_name_only", "crop", "against", "one"),
        # Of its published sets, CLIP's 80 templates and the best 8 of them, none ships here.
        ScoreProtocol("big_vision", "bare", "first", "photo", "squash", "index", "apart"),
        ScoreProtocol("clip_benchmark", "none", "whole", "photo", "short_side", "index", "apart"),
    )
}


def ranks_of(scores: np.ndarray, labels: Int[np.ndarray, "B A"], ties: Ties) -> np.ndarray:
    """Where each row's best right candidate stands, 0 being first.

    Args:
        scores: (B, N) float.
        labels: (B, A) right candidates, padded with -1.
        ties: `against` the model, or to the lower `index`.

    Raises:
        ValueError: as `label_ranks`.

    Examples:
        >>> scores, labels = np.array([[1.0, 1.0, 0.0]]), np.array([[0, -1]])
        >>> ranks_of(scores, labels, "against"), ranks_of(scores, labels, "index")
        (array([1]), array([0]))
    """
    strict = label_ranks(scores, labels)
    if ties == "against":
        return strict
    rows, candidates = scores.shape
    right = np.zeros((rows, candidates), bool)
    row, column = np.nonzero(labels >= 0)
    right[row, labels[row, column]] = True
    best = np.where(right, scores, -np.inf).max(axis=1)[:, None]
    equal = scores == best
    first = (equal & right).argmax(axis=1)[:, None]
    # Those equal ones that stand after the right one come after it.
    return strict - np.sum(equal & ~right & (np.arange(candidates) > first), axis=1)


def padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "B A"]:
    """Lists of numbers as a table, padded with -1."""
    table = np.full((len(rows), max(1, *(len(row) for row in rows))), -1, np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table
