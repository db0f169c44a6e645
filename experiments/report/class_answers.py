"""Pictures that a classifier got right and wrong, from `predictions.json`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...datasets import LabelledImages, fit_images
from .answers import Answer, Guess
from .pictures import data_address

_EACH = 8


def sample_pictures(
    predictions: dict[str, Any], data: LabelledImages, image_size: int
) -> tuple[Answer, ...]:
    """Pictures drawn by lot, half of them right and half wrong as far as there are such.

    Args:
        predictions: the contents of `predictions.json`.
        data: whose rows the predictions name; of others there is nothing to show.
        image_size: S.
    """
    if not same_pictures(predictions, data):
        return ()
    ids, labels = (np.asarray(predictions[key], np.int64) for key in ("id", "label"))
    top = np.asarray(predictions["top"])
    right = top[:, 0] == labels
    order = np.random.default_rng(0).permutation(len(ids))
    chosen = [i for wanted in (right, ~right) for i in order[wanted[order]][:_EACH]]
    names = predictions["classes"]
    images = pictures_of(data, ids[chosen], image_size)
    found = []
    for i, image in zip(chosen, images, strict=True):
        scores = [float(s) for s in predictions["score"][i]]
        guesses = tuple(
            Guess(names[n], s, 100 * s, bool(n == labels[i]))
            for n, s in zip(top[i], scores, strict=True)
        )
        places = np.flatnonzero(top[i] == labels[i])
        rank = int(places[0]) + 1 if len(places) else 0
        found.append(Answer(data_address(image), names[labels[i]], False, rank, guesses))
    return tuple(found)


def same_pictures(predictions: dict[str, Any], data: LabelledImages) -> bool:
    """Whether the predictions' rows are of these pictures."""
    ids, labels = (np.asarray(predictions.get(key, []), np.int64) for key in ("id", "label"))
    inside = (ids >= 0) & (ids < len(data.labels))
    return bool(len(ids) and inside.all() and (data.labels[ids] == labels).all())


def pictures_of(data: LabelledImages, rows: np.ndarray, image_size: int) -> np.ndarray:
    """(n,S,S,3) uint8 pictures of rows; grey ones in three equal channels."""
    images = fit_images(data.images[rows], image_size)
    return np.repeat(images[..., None], 3, axis=3) if images.ndim == 3 else images
