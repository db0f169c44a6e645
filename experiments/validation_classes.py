"""Accuracy of a classifier on the validation split, during training."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ..datasets import image_evaluation_batches, load_images
from ..models import Vmoe
from .classification import scaled
from .config import ClassificationConfig
from .validation import on_one_device

_ROWS = 256


class ClassValidation:
    """Scores a V-MoE on the `validation` split; nothing without such a split."""

    headline = "top1"

    def __init__(self, config: ClassificationConfig):
        self._data, self._size = config.data, config.model.image_size
        self._there = "validation" in load_images(self._data, self._size).splits
        model = Vmoe(config.model)

        @jax.jit
        def right(params: Any, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            out = model.apply({"params": params}, scaled(batch["image"]), batch["mask"])
            order = jax.lax.top_k(out.logits, min(5, config.model.num_classes))[1]  # pyright: ignore
            hits = (order == batch["label"][:, None]) & batch["mask"][:, None]
            return hits[:, 0].sum(), hits.any(axis=1).sum()

        self._right = right

    def scores(self, params: Any) -> dict[str, float]:
        """`top1` and `top5` accuracy; dropless."""
        if not self._there:
            return {}
        params = on_one_device(params)
        first = five = many = 0
        for batch in image_evaluation_batches(self._data, "validation", _ROWS, self._size):
            counted = {name: batch[name] for name in ("image", "label", "mask")}
            one, more = self._right(params, counted)
            first, five = first + int(one), five + int(more)
            many += int(np.sum(batch["mask"]))
        return {"top1": first / many, "top5": five / many}
