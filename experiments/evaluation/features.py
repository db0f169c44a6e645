"""What a model makes of the images of a split, collected."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ...datasets import Batch

FeaturesFn = Callable[[Batch], Any]


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of a split's N images and their labels.

    Attributes:
        features: (N, F), of any floating type.
        labels: (N,) ints, or (N, A) where several are right, padded with -1.
    """

    features: Float[np.ndarray, "N F"]
    labels: Int[np.ndarray, "_ *A"]


def collect_features(features_fn: FeaturesFn, batches: Iterable[Batch]) -> Features:
    """Features of all real rows of evaluation batches.

    Args:
        features_fn: a batch with `image` (B,S,S,3) uint8 and `mask` (B,) bool -> (B, F) floats.
        batches: with `image`, `label` (B,) and `mask` (B,), false for padding.

    Raises:
        ValueError: there is no real row.
    """
    found, labels = [], []
    for batch in batches:
        mask = np.asarray(batch["mask"], bool)
        found.append(np.asarray(features_fn(batch))[mask])
        labels.append(np.asarray(batch["label"])[mask])
    if not sum(map(len, labels)):
        raise ValueError("there are no images to take features of")
    return Features(np.concatenate(found), np.concatenate(labels))
