"""What may be said of a training image, and when it may be mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .examples import Concept

_SIDE_WORDS = frozenset(
    re.findall(
        r"\S+",
        "left right leftward rightward leftwards rightwards clockwise counterclockwise"
        " anticlockwise east west eastern western forward backward back rewind reverse first"
        " last next previous quarter waxing waning crescent gibbous globe map abc abcd 123 1234"
        " letter letters number numbers digit digits calendar date clock watch o'clock input"
        " text word words keycap square sign numeral latin",
    )
)
# Groups of drawings that are signs: mirrored, they say something else or nothing.
_SIGN_SUBGROUPS = frozenset(
    re.findall(
        r"\S+",
        "alphanum keycap math punctuation currency arrow av-symbol zodiac other-symbol"
        " transport-sign warning religion gender geometric",
    )
)


def training_concepts(concepts: Sequence[Concept]) -> tuple[Concept | None, ...]:
    """The concept table as training may see it: held-out concepts are None.

    A keyword that is itself the label of a held-out concept (`umbrella` of "closed
    umbrella") is dropped too: no label or keyword is the name of what is held out. A label may
    have it within ("closed umbrella"), as those of 53 concepts of emoji_art have; no keyword has.
    """
    hidden = {c.label.lower() for c in concepts if c.held_out}
    seen: list[Concept | None] = []
    for concept in concepts:
        if concept.held_out:
            seen.append(None)
            continue
        words = tuple(w for w in concept.keywords if w.lower() not in hidden)
        fields = {f: getattr(concept, f) for f in ("code", "group", "subgroup", "is_object")}
        seen.append(Concept(concept.label, words, **fields))
    return tuple(seen)


def draw_caption(concept: Concept, rng: np.random.Generator, label_share: float = 0.5) -> str:
    """A caption of an image of `concept`.

    With probability `label_share` the label alone, with half of the rest the label and one to
    three keywords (`fox animal face`), else two to four keywords in any order. Concepts
    without keywords always give their label, and the words of other data sets'
    further captions (with more than three words) stand alone.

    Args:
        concept: as `training_concepts` gives it.
        rng: consumed; the same state gives the same caption.
        label_share: between 0 and 1.
    """
    words = concept.keywords
    pick = rng.random()
    if not words or pick < label_share:
        return concept.label
    if not concept.code and any(len(w.split()) > 3 for w in words):
        return words[int(rng.integers(len(words)))]
    with_label = pick < (1 + label_share) / 2 or len(words) < 2
    low, high = (1, 3) if with_label else (2, 4)
    count = min(len(words), int(rng.integers(low, high + 1)))
    chosen = [words[int(i)] for i in rng.permutation(len(words))[:count]]
    return " ".join([concept.label, *chosen] if with_label else chosen)


def names_a_side(text: str) -> bool:
    """Whether mirroring an image could make `text` untrue: sides, turns, letters, digits."""
    words = re.findall(r"[a-z']+|\d+", text.lower())
    return any(w in _SIDE_WORDS or w.isdigit() for w in words)


def may_mirror(concept: Concept) -> bool:
    """Whether a drawing of the concept stays true mirrored, whatever caption it gets."""
    if concept.subgroup in _SIGN_SUBGROUPS:
        return False
    return not any(names_a_side(text) for text in (concept.label, *concept.keywords))
