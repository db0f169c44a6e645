"""What each expert takes: the patches and the word pieces that its router sends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int, UInt8

from ..evaluation.protocol import TEST_ARTISTS, VALIDATION_ARTIST
from .curves import layer_title
from .pictures import Patch, patch
from .tokens import Pairs, route_images, route_texts

if TYPE_CHECKING:
    from ...datasets import Examples
    from ..library import Run

# Drawings that are looked at, and the largest number of crops on the page (a limit on its size).
_DRAWINGS = 1024
_CROPS = 400
_PER_EXPERT = 12
_PIECES = 14
_LAYERS = 4


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
        image_share, text_share: of all patches, and of all pieces, the part that it took.
        blank: of its patches, the part that is one colour.
        patches: those that its router was surest of, at most one a drawing.
        pieces: by count times specificity.
    """

    number: int
    image_share: float
    text_share: float
    blank: float
    patches: tuple[Patch, ...]
    pieces: tuple[Piece, ...]


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
    rows = np.concatenate([examples.rows(artist=a) for a in (VALIDATION_ARTIST, *TEST_ARTISTS)])
    rows = np.random.default_rng(0).permutation(rows)[:_DRAWINGS]
    images = examples.images(rows)
    labels = [examples.concepts[c].label for c in examples.concept[rows]]
    texts = [c.label for c in examples.concepts]
    texts += [" ".join(c.keywords[:4]) for c in examples.concepts if c.keywords]
    ids, real = run.tokenizer.encode(texts, config.text_length)
    seen, read = route_images(run, images), route_texts(run, ids, real)

    experts = config.moe.routed_experts
    names = list(seen)
    spread = np.linspace(0, len(names) - 1, _LAYERS).round().astype(int)
    names = [names[i] for i in np.unique(spread)]
    crops = max(1, min(_PER_EXPERT, _CROPS // (experts * len(names))))
    blank = _blank(images, config.patch_size)
    layers = []
    for name in names:
        patches, pieces = seen[name], read[name]
        tastes = []
        for number in range(experts):
            mine = patches.expert == number
            empty = blank[patches.row[mine], patches.place[mine]]
            tastes.append(
                ExpertTastes(
                    number,
                    float(mine.mean()) if len(mine) else 0.0,
                    float((pieces.expert == number).mean()) if len(pieces.expert) else 0.0,
                    float(empty.mean()) if len(empty) else 0.0,
                    _top_patches(patches, number, images, labels, config.patch_size, crops),
                    top_pieces(pieces, number, ids, run.tokenizer.pieces),
                )
            )
        layers.append(LayerTastes(layer_title(name, config.depth), tuple(tastes)))
    return tuple(layers)


def _blank(images: UInt8[np.ndarray, "n S S 3"], size: int) -> np.ndarray:
    """(n, patches) bool: all pixels of the patch are equal."""
    count, side = images.shape[0], images.shape[1] // size
    cut = images.reshape(count, side, size, side, size, 3).transpose(0, 1, 3, 2, 4, 5)
    flat = cut.reshape(count, side * side, size * size, 3)
    return (flat == flat[:, :, :1]).all(axis=(2, 3))


def _top_patches(
    pairs: Pairs,
    expert: int,
    images: np.ndarray,
    labels: Sequence[str],
    size: int,
    most: int,
) -> tuple[Patch, ...]:
    """The surest patches of an expert: one a drawing, and no two that look the same."""
    mine = np.flatnonzero(pairs.expert == expert)
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
        Piece(_readable(text), int(count[i]), int(total[i]))
        for i, text in zip(order, names(order), strict=True)
    )


def _readable(piece: str) -> str:
    """A piece that goes on with a word begins with `…`; a lone word mark is a space."""
    if piece == "▁":
        return "␣"
    return piece[1:] if piece.startswith("▁") else f"…{piece}"
