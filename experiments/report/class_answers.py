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
    ids, labels = (np.asarray(predictions.get(key, []), np.int64) for key in ("id", "label"))
    inside = (ids >= 0) & (ids < len(data.labels))
    if not len(ids) or not inside.all() or (data.labels[ids] != labels).any():
        return ()
    top = np.asarray(predictions["top"])
    right = top[:, 0] == labels
    order = np.random.default_rng(0).permutation(len(ids))
    chosen = [i for wanted in (right, ~right) for i in order[wanted[order]][:_EACH]]
    names = predictions["classes"]
    images = fit_images(data.images[ids[chosen]], image_size)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
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
