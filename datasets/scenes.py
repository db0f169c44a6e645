"""`emoji_scenes`: an endless stream of composed pictures, and captions that say what is where.

A scene is one to four training drawings, of concepts that are not held out, on a coloured
or textured ground. It depends on (seed, index) and the data alone.
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
from PIL import Image

from .captions import may_mirror, names_a_side, training_concepts
from .examples import Examples

COLOURS = {
    "red": (214, 58, 50),
    "orange": (242, 145, 48),
    "yellow": (250, 217, 75),
    "green": (96, 175, 82),
    "blue": (72, 132, 214),
    "purple": (146, 92, 190),
    "pink": (244, 160, 190),
    "brown": (140, 100, 72),
    "grey": (160, 162, 166),
    "black": (28, 28, 32),
}
TEXTURES = ("plain", "striped", "checked", "speckled", "shaded")
_COUNTS = ("", "a", "two", "three", "four")
_PLACES = {
    "on the left": (0.0, 0.5),
    "on the right": (1.0, 0.5),
    "at the top": (0.5, 0.0),
    "at the bottom": (0.5, 1.0),
    "in the middle": (0.5, 0.5),
}
# The relation of the first kind to the second, and the axis and side of the first.
_RELATIONS = {"left of": (0, 0), "right of": (0, 1), "above": (1, 0), "below": (1, 1)}
_PLURALS = {
    "mouse": "mice",
    "goose": "geese",
    "wolf": "wolves",
    "leaf": "leaves",
    "knife": "knives",
    "loaf": "loaves",
    "fish": "fish",
    "sheep": "sheep",
    "bison": "bison",
    "deer": "deer",
    "foot": "feet",
    "tooth": "teeth",
}
# The words that scenes are made with, for the tokenizer.
SCENE_TEXTS = (
    *(f"a small one {place}" for place in _PLACES),
    *(f"{count} large ones {side} a small one" for count in _COUNTS[2:] for side in _RELATIONS),
    *(f"two and three on a {colour} background" for colour in COLOURS),
    *(f"an one on a {texture} background" for texture in TEXTURES),
)


@dataclasses.dataclass(frozen=True)
class Scene:
    """One composed picture.

    Attributes:
        image: (S,S,3) uint8.
        caption: such as `two small cats left of an apple on a blue background`.
        rows: numbers of the drawings' rows, one per kind of thing.
        counts: how often each kind is there.
    """

    image: np.ndarray
    caption: str
    rows: tuple[int, ...]
    counts: tuple[int, ...]


class Scenes:
    """The endless stream: `scenes[index]` for any index from 0.

    Args:
        examples: emoji_art. Its `train` split alone is drawn from.
        seed: of the stream.

    Raises:
        ValueError: there is no training drawing that a scene can be made of.
    """

    def __init__(self, examples: Examples, seed: int = 0):
        concepts = training_concepts(examples.concepts)
        usable = [
            c is not None and c.is_object and _countable(c.label) and not names_a_side(c.label)
            for c in concepts
        ]
        train = examples.rows("train")
        self._rows = train[np.array(usable)[examples.concept[train]]]
        if not len(self._rows):
            raise ValueError("No training drawing has a label that a scene can count.")
        self._concepts = concepts
        self._concept = examples.concept[self._rows]
        self._alone = len(np.unique(self._concept)) == 1
        self._rgba = examples.rgba
        self._images: dict[int, Image.Image] = {}
        self._mirror = np.array([c is not None and may_mirror(c) for c in concepts])
        self._seed = seed
        self.size = examples.rgba.shape[1]

    def __getitem__(self, index: int) -> Scene:
        if index < 0:
            raise IndexError(f"Scenes are numbered from 0; {index} is not one.")
        rng = np.random.default_rng([self._seed, 0x5CE4E, index])
        kinds, counts = _inventory(rng)
        picks = self._kinds(rng, kinds)
        small = rng.random(kinds) < 0.5
        ground, background = _ground(rng, self.size)
        if sum(counts) == 1:
            boxes, where = _one(rng, self.size, bool(small[0]))
        else:
            boxes, where = _several(rng, self.size, counts, small)
        canvas = Image.fromarray(ground.astype(np.uint8))
        for kind, (x, y, side) in boxes:
            drawing = self._drawing(rng, picks[kind])
            small_one = drawing.resize((side, side), Image.Resampling.BILINEAR)
            canvas.paste(small_one, (x, y), small_one)
        labels = [self._label(picks[k]) for k in range(kinds)]
        sizes = _say_sizes(rng, small, sum(counts))
        things = [_phrase(labels[k], counts[k], sizes[k]) for k in range(kinds)]
        joined = f" {where} ".join(things) if kinds == 2 else f"{things[0]} {where}".strip()
        caption = joined + (f" on {_article(background)}" if background else "")
        return Scene(np.array(canvas), caption, tuple(int(self._rows[p]) for p in picks), counts)

    def _kinds(self, rng: np.random.Generator, kinds: int) -> list[int]:
        picks = [int(rng.integers(len(self._rows)))]
        while len(picks) < kinds:
            pick = int(rng.integers(len(self._rows)))
            # Two drawings of one concept would be two kinds of the same name.
            if self._concept[pick] != self._concept[picks[0]] or self._alone:
                picks.append(pick)
        return picks

    def _label(self, pick: int) -> str:
        concept = self._concepts[self._concept[pick]]
        assert concept is not None  # held-out concepts are not in self._rows
        return concept.label

    def _drawing(self, rng: np.random.Generator, pick: int) -> Image.Image:
        if pick not in self._images:
            self._images[pick] = Image.fromarray(self._rgba[self._rows[pick]])
        image = self._images[pick]
        if self._mirror[self._concept[pick]] and rng.random() < 0.5:
            return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image


def _inventory(rng: np.random.Generator) -> tuple[int, tuple[int, ...]]:
    options = ((1,), (2,), (3,), (4,), (1, 1), (1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3))
    counts = options[int(rng.integers(len(options)))]
    return len(counts), counts


def _one(rng: np.random.Generator, size: int, small: bool) -> tuple[list, str]:
    side = int(size * (rng.uniform(0.36, 0.5) if small else rng.uniform(0.75, 0.95)))
    if not small:  # a large thing fills the picture, and is nowhere in particular
        at = rng.integers(0, size - side + 1, 2)
        return [(0, (int(at[0]), int(at[1]), side))], ""
    place = list(_PLACES)[int(rng.integers(len(_PLACES)))]
    x, y = (int((size - side) * share) for share in _PLACES[place])
    return [(0, (x, y, side))], place


def _several(
    rng: np.random.Generator, size: int, counts: tuple[int, ...], small: np.ndarray
) -> tuple[list, str]:
    """Boxes (kind, (x, y, side)) in the cells of a 2 x 2 grid, or its halves."""
    half = size // 2
    boxes: list[tuple[int, tuple[int, int, int]]] = []

    def put(kind: int, x: int, y: int, width: int, height: int) -> None:
        share = rng.uniform(0.55, 0.7) if small[kind] else rng.uniform(0.85, 1.0)
        side = max(4, int(min(width, height, half) * share))
        dx, dy = (int(rng.integers(0, room - side + 1)) for room in (width, height))
        boxes.append((kind, (x + dx, y + dy, side)))

    if len(counts) == 1:
        cells = rng.permutation(4)[: counts[0]]
        for cell in cells:
            put(0, half * int(cell % 2), half * int(cell // 2), half, half)
        return boxes, ""
    if sum(counts) < 4 or counts == (2, 2):
        word = list(_RELATIONS)[int(rng.integers(len(_RELATIONS)))]
        axis, side = _RELATIONS[word]
        for kind, count in enumerate(counts):
            start = half * (side ^ kind)
            for part in range(count):
                along, length = half * part, (half if count == 2 else size)
                box = (start, along, half, length) if axis == 0 else (along, start, length, half)
                put(kind, *box)
        return boxes, word
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
    for cell, kind in zip(rng.permutation(4), kinds, strict=True):
        put(kind, half * int(cell % 2), half * int(cell // 2), half, half)
    return boxes, "and"


def _say_sizes(rng: np.random.Generator, small: np.ndarray, total: int) -> list[str]:
    # Among several things sizes are only said where they differ, so that they are true.
    differ = total == 1 or (len(small) == 2 and small[0] != small[1])
    if not differ or rng.random() < 0.4:
        return [""] * len(small)
    return ["small" if s else "large" for s in small]


def _ground(rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
    """(S,S,3) float32 ground, and what the caption says of it (often nothing)."""
    if rng.random() < 0.3:
        return np.full((size, size, 3), 255, np.float32), ""
    name = list(COLOURS)[int(rng.integers(len(COLOURS)))]
    texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
    ground = np.empty((size, size, 3), np.float32)
    ground[:] = np.array(COLOURS[name]) + rng.uniform(-14, 14, 3)
    y, x = np.ogrid[:size, :size]
    period = int(rng.integers(3, 7))
    if texture == "striped":
        ground += np.where((y // period) % 2, 24.0, -24.0)[..., None]
    elif texture == "checked":
        ground += np.where((x // period + y // period) % 2, 20.0, -20.0)[..., None]
    elif texture == "speckled":
        ground += rng.uniform(-34, 34, (size, size, 1))
    elif texture == "shaded":
        ground += ((y / size - 0.5) * rng.choice((-70.0, 70.0)))[..., None]
    said = rng.random()
    words = f"{name} background" if said < 0.4 else f"{texture} {name} background"
    return np.clip(ground, 0, 255), words if said < 0.55 else ""


def _countable(label: str) -> bool:
    """Labels of up to three plain words, of which the last is no plural already."""
    plain = re.fullmatch(r"[a-z]+( (?!(?:of|with|and|in|on)\b)[a-z]+){0,2}", label) is not None
    return plain and (not label.endswith("s") or label.endswith("ss"))


def _plural(label: str) -> str:
    head, _, last = label.rpartition(" ")
    if last in _PLURALS:
        many = _PLURALS[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        many = last + "es"
    elif re.search(r"[^aeiou]y$", last):
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return f"{head} {many}".strip()


def _phrase(label: str, count: int, size: str) -> str:
    if count == 1:
        return _article(f"{size} {label}".strip())
    return " ".join(w for w in (_COUNTS[count], size, _plural(label)) if w)


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
