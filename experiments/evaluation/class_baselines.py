"""What a classifier has to beat: chance, and the nearest of the classes' mean pictures."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ...datasets import LabelledImages
from .baselines import chance_top_k
from .metrics import TopK, label_ranks

_KS = (1, 5)
_ROWS = 4096


def class_baselines(data: LabelledImages, split: str) -> dict[str, dict[str, float]]:
    """Top-1 and top-5 of each baseline on a split.

    `chance` is a random ranking. `nearest_mean` answers with the class whose mean training picture
    is nearest in pixels; it is left out where a class has no training picture.
    """
    found = {"chance": chance_top_k(len(data.classes), _KS)}
    train = data.splits.get("train", np.zeros(0, np.int64))
    labels = data.labels[train]
    if len(np.unique(labels)) == len(data.classes):
        means = [data.images[train[labels == c]].mean(axis=0) for c in range(len(data.classes))]
        flat = np.stack(means).reshape(len(means), -1).astype(np.float32)
        found["nearest_mean"] = _nearest(flat, data, data.rows(split)).fractions()
    return found


def _nearest(means: Float[np.ndarray, "C P"], data: LabelledImages, rows: np.ndarray) -> TopK:
    state = TopK.empty(_KS)
    lengths = np.sum(means**2, axis=1)
    for start in range(0, len(rows), _ROWS):
        part = rows[start : start + _ROWS]
        images = data.images[part].reshape(len(part), -1).astype(np.float32)
        near = 2 * images @ means.T - lengths  # the distance, but for what all classes share
        state += TopK.from_ranks(label_ranks(near, data.labels[part][:, None]), _KS)
    return state
