"""Which classes and which patches each expert of a classifier takes."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Float

from ...datasets import LabelledImages
from ...routing import mutual_information
from .blocks import layer_title
from .class_answers import pictures_of
from .experts import CROPS, PER_EXPERT, blank_patches, spread, top_patches
from .pictures import Patch
from .tokens import Pairs, route_labelled

if TYPE_CHECKING:
    from ..library import Trained

_PICTURES = 2048
# Rows of the map; of more classes those are shown whose patches go the most one-sided ways.
_CLASSES = 30
_FAVOURITES = 3


@dataclasses.dataclass(frozen=True)
class ClassExpert:
    """One expert.

    Attributes:
        number: from 0.
        share: of all patches, the part that it took.
        blank: of its patches, the part that is one colour.
        classes: those it takes most of, over its even part: names and ratios above one.
        patches: those that its router was surest of, at most one a picture.
    """

    number: int
    share: float
    blank: float
    classes: tuple[tuple[str, float], ...]
    patches: tuple[Patch, ...]


@dataclasses.dataclass(frozen=True)
class ClassLayer:
    """One sparse layer.

    Attributes:
        title: such as `Layer 2 of 4`.
        rows: class and, expert by expert, the share of its patches.
        left_out: classes without a row.
        largest: the largest share, which the colours end at.
        information: nats that the class tells about the expert; `most` is its bound.
        experts: each of them.
    """

    title: str
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    left_out: int
    largest: float
    information: float
    most: float
    experts: tuple[ClassExpert, ...]


def class_tastes(run: Trained, data: LabelledImages) -> tuple[ClassLayer, ...]:
    """What every expert takes of pictures that training never saw, dropless.

    Up to 2,048 pictures of the validation split are looked at. Of many layers, four are shown.

    Args:
        run: of a classification.
        data: the labelled pictures.
    """
    config = run.config.model
    split = next(s for s in ("validation", "test", "train") if s in data.splits)
    rows = np.random.default_rng(0).permutation(data.rows(split))[:_PICTURES]
    images = pictures_of(data, rows, config.image_size)
    labels = data.labels[rows]
    seen = route_labelled(config, run.params, images)
    names = spread(list(seen))
    experts = config.moe.routed_experts
    crops = max(1, min(PER_EXPERT, CROPS // (experts * max(1, len(names)))))
    words = [data.classes[label] for label in labels]
    blank = blank_patches(images, config.patch_size)
    layers = []
    for name in names:
        pairs = seen[name]
        table = class_table(pairs, labels, len(data.classes), experts)
        known = table.sum(axis=1) > 0
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        mean = table.sum(axis=0) / max(1.0, table.sum())
        tastes = []
        for number in range(experts):
            mine = pairs.expert == number
            drawn = mine & (pairs.place >= 0)
            empty = blank[pairs.row[drawn], pairs.place[drawn]]
            tastes.append(
                ClassExpert(
                    number,
                    float(mean[number]),
                    float(empty.mean()) if len(empty) else 0.0,
                    _favourites(shares[:, number], mean[number], data.classes),
                    top_patches(pairs, number, images, words, config.patch_size, crops),
                )
            )
        shown = _shown(shares, mean, known)
        layers.append(
            ClassLayer(
                layer_title(name, run.config),
                tuple((data.classes[c], tuple(shares[c].tolist())) for c in shown),
                int(known.sum()) - len(shown),
                float(shares[shown].max(initial=0.0)),
                float(jax.jit(mutual_information)(table.astype(np.float32))),
                math.log(min(experts, max(1, int(known.sum())))),
                tuple(tastes),
            )
        )
    return tuple(layers)


def class_table(
    pairs: Pairs, labels: np.ndarray, classes: int, experts: int
) -> Float[np.ndarray, "N E"]:
    """(classes, E) how many pairs of a picture of a class went to an expert."""
    cells = labels[pairs.row].astype(np.int64) * experts + pairs.expert
    counts = np.bincount(cells, minlength=classes * experts)
    return counts.reshape(classes, experts).astype(np.float64)


def _favourites(shares: np.ndarray, mean: float, names) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-shares, kind="stable")[:_FAVOURITES]
    # A tenth above the even part is no more than noise.
    return tuple(
        (names[c], float(shares[c] / mean)) for c in order if mean > 0 and shares[c] > 1.1 * mean
    )


def _shown(shares: np.ndarray, mean: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Numbers of the classes with a row, in their order."""
    there = np.flatnonzero(known)
    if len(there) <= _CLASSES:
        return there
    sided = np.abs(shares[there] - mean).sum(axis=1)
    return np.sort(there[np.argsort(-sided, kind="stable")[:_CLASSES]])
