"""What each expert takes: the patches and the word pieces that its router sends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, UInt8

from ..evaluation.protocol import TEST_ARTISTS, VALIDATION_ARTIST
from .blocks import layer_title, routers
from .pathway import readable
from .pictures import Patch, patch
from .preferences import Preference, kind_of_thing, preferences
from .tokens import NO_PAIRS, Pairs, route_images, route_texts

if TYPE_CHECKING:
    from ...datasets import Examples
    from ..library import Run

# Drawings that are looked at, and the largest number of crops on the page (a limit on its size).
_DRAWINGS = 1024
CROPS = 400
PER_EXPERT = 12
_PIECES = 14
LAYERS = 4


@dataclasses.dataclass(frozen=True)
class Piece:
    """A word piece: how often this expert took it, and how often it came."""

    text: str
    count: int
    total: int


@dataclasses.dataclass(frozen=True)
class ExpertTastes:
    """One expert.

    Attributes:
        number: from 0.
        image_share, text_share: of all patches, and of all pieces, the part that it took; None
            where none come.
        blank: of its patches, the part that is one colour.
        patches: those that its router was surest of, at most one a drawing.
        pieces: by count times specificity.
        liked: kinds of things whose drawings it takes more patches of than of others.
        read: kinds of things of whose names it takes more pieces.
    """

    number: int
    image_share: float | None
    text_share: float | None
    blank: float
    patches: tuple[Patch, ...]
    pieces: tuple[Piece, ...]
    liked: tuple[Preference, ...] = ()
    read: tuple[Preference, ...] = ()

    @property
    def drawn(self) -> float | None:
        """The part of patches among its tokens, as if as many patches came as pieces; None where
        only one kind of token comes, or nothing."""
        if self.image_share is None or self.text_share is None:
            return None
        both = self.image_share + self.text_share
        return self.image_share / both if both else None


@dataclasses.dataclass(frozen=True)
class LayerTastes:
    """The experts of one sparse layer."""

    title: str
    experts: tuple[ExpertTastes, ...]


def expert_tastes(run: Run, examples: Examples) -> tuple[LayerTastes, ...]:
    """What every expert takes of drawings by artists that training never saw.

    Of many layers, four are shown: first to last, evenly spaced.

    Args:
        run: the trained model.
        examples: `emoji_art`.
    """
    config = run.config.model
    moes = routers(run.config)
    rows = np.concatenate([examples.rows(artist=a) for a in (VALIDATION_ARTIST, *TEST_ARTISTS)])
    rows = np.random.default_rng(0).permutation(rows)[:_DRAWINGS]
    images = examples.images(rows)
    labels = [examples.concepts[c].label for c in examples.concept[rows]]
    texts = [c.label for c in examples.concepts]
    texts += [" ".join(c.keywords[:4]) for c in examples.concepts if c.keywords]
    kinds = [kind_of_thing(c.group, c.subgroup) for c in examples.concepts]
    drawn_kinds = [kinds[c] for c in examples.concept[rows]]
    read_kinds = kinds + [
        kind for kind, c in zip(kinds, examples.concepts, strict=True) if c.keywords
    ]
    ids, real = run.tokenizer.encode(texts, config.text_length)
    seen, read = route_images(run, images), route_texts(run, ids, real)
    # Towers have layers of their own.
    names = spread([name for name in moes if name in seen or name in read])
    drawn = sum(moes[name].routed_experts for name in names if name in seen)
    crops = max(1, min(PER_EXPERT, CROPS // max(1, drawn)))
    blank = blank_patches(images, config.patch_size)
    layers = []
    for name in names:
        patches, pieces = seen.get(name, NO_PAIRS), read.get(name, NO_PAIRS)
        liked = preferences(patches, drawn_kinds, moes[name].routed_experts)
        pleases = preferences(pieces, read_kinds, moes[name].routed_experts)
        tastes = []
        for number in range(moes[name].routed_experts):
            mine = patches.expert == number
            drawn = mine & (patches.place >= 0)
            empty = blank[patches.row[drawn], patches.place[drawn]]
            tastes.append(
                ExpertTastes(
                    number,
                    float(mine.mean()) if name in seen and len(mine) else None,
                    float((pieces.expert == number).mean()) if name in read else None,
                    float(empty.mean()) if len(empty) else 0.0,
                    top_patches(patches, number, images, labels, config.patch_size, crops),
                    top_pieces(pieces, number, ids, run.tokenizer.pieces),
                    liked[number],
                    pleases[number],
                )
            )
        layers.append(LayerTastes(layer_title(name, run.config), tuple(tastes)))
    return tuple(layers)


def spread(names: list[str]) -> list[str]:
    """At most four layers, first to last, evenly spaced."""
    if not names:
        return []
    chosen = np.linspace(0, len(names) - 1, LAYERS).round().astype(int)
    return [names[i] for i in np.unique(chosen)]


def blank_patches(images: UInt8[np.ndarray, "n S S 3"], size: int) -> np.ndarray:
    """(n, patches) bool: all pixels of the patch are equal."""
    count, side = images.shape[0], images.shape[1] // size
    cut = images.reshape(count, side, size, side, size, 3).transpose(0, 1, 3, 2, 4, 5)
    flat = cut.reshape(count, side * side, size * size, 3)
    return (flat == flat[:, :, :1]).all(axis=(2, 3))


def top_patches(
    pairs: Pairs,
    expert: int,
    images: np.ndarray,
    labels: Sequence[str],
    size: int,
    most: int,
) -> tuple[Patch, ...]:
    """The surest patches of an expert: one a drawing, and no two that look the same."""
    # A class token has no place in the picture.
    mine = np.flatnonzero((pairs.expert == expert) & (pairs.place >= 0))
    chosen: list[Patch] = []
    drawings: set[int] = set()
    looks: set[bytes] = set()
    side = images.shape[1] // size
    for pair in mine[np.argsort(-pairs.gate[mine], kind="stable")]:
        row, place = int(pairs.row[pair]), int(pairs.place[pair])
        y, x = (v * size for v in divmod(place, side))
        look = images[row, y : y + size, x : x + size].tobytes()
        if row in drawings or look in looks:
            continue
        drawings.add(row)
        looks.add(look)
        chosen.append(patch(images[row], place, size, labels[row]))
        if len(chosen) == most:
            break
    return tuple(chosen)


def top_pieces(
    pairs: Pairs, expert: int, ids: Int[np.ndarray, "n N"], names, most: int = _PIECES
) -> tuple[Piece, ...]:
    """The pieces that an expert takes often and others do not: by count² over total.

    Args:
        pairs: of the layer, over the texts `ids`.
        expert: its number.
        ids: the texts' pieces.
        names: piece ids -> their text.
        most: how many.
    """
    kinds = ids[pairs.row, pairs.place]
    size = int(ids.max(initial=0)) + 1
    total = np.bincount(kinds, minlength=size)
    count = np.bincount(kinds[pairs.expert == expert], minlength=size)
    score = count**2 / np.maximum(total, 1)
    order = np.argsort(-score, kind="stable")[:most]
    order = order[count[order] > 0]
    return tuple(
        Piece(readable(text), int(count[i]), int(total[i]))
        for i, text in zip(order, names(order), strict=True)
    )
