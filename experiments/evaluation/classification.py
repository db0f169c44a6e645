"""Scores of a classifier as a mergeable state of integers: sums of batches are sums of images."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from .metrics import TopK, label_ranks

_KS = (1, 5)
# Confidences are summed as integers of this unit, so that no order of merging changes the sum.
_UNIT = 2.0**-32


@dataclasses.dataclass(frozen=True, eq=False)
class ClassScores:
    """How often a classifier of C classes is right.

    A tie counts against the model, as in `label_ranks`. An image with several labels counts once:
    under the predicted class if that is among them, else under the first.

    Attributes:
        classes: C.
        top: hits among the best 1 and 5, and images seen, padding not counted.
        cells, cell_count: (n,) int64, the cells of the confusion matrix that are not zero, as
            true class * C + predicted class in ascending order, and their images: with 21,843
            classes the whole matrix would take 4 GB.
        bin_count, bin_hits: (bins,) int64, images and hits by confidence (the predicted class's
            softmax), in equal bins over 0..1.
        bin_confidence: (bins,) int64, the sum of confidences in units of 2^-32.
    """

    classes: int
    top: TopK
    cells: Int[np.ndarray, "n"]
    cell_count: Int[np.ndarray, "n"]
    bin_count: Int[np.ndarray, "bins"]
    bin_hits: Int[np.ndarray, "bins"]
    bin_confidence: Int[np.ndarray, "bins"]

    @classmethod
    def empty(cls, classes: int, bins: int = 15) -> ClassScores:
        """The state of no images, neutral in `+`."""
        none, nothing = np.zeros(0, np.int64), np.zeros(bins, np.int64)
        return cls(classes, TopK.empty(_KS), none, none, nothing, nothing, nothing)

    @classmethod
    def of_batch(
        cls,
        logits: Float[np.ndarray, "B C"],
        labels: Int[np.ndarray, "B *A"],
        mask: Bool[np.ndarray, "B"] | None = None,
        bins: int = 15,
    ) -> ClassScores:
        """The state of one batch.

        Args:
            logits: (B, C) before the softmax.
            labels: (B,) right classes, or (B, A) where several are right, padded with -1.
            mask: (B,) False for padding rows.
            bins: of the confidence.

        Raises:
            ValueError: as `label_ranks`: a NaN, a label not below C, a real row without a label.
        """
        keep = np.ones(len(logits), bool) if mask is None else mask
        logits = logits[keep].astype(np.float64)
        labels = labels.reshape(len(labels), -1)[keep]
        rows, classes = np.arange(len(logits)), logits.shape[1]
        ranks = label_ranks(logits, labels)
        right = np.zeros((len(labels), classes + 1), bool)
        right[rows[:, None], np.where(labels >= 0, labels, classes)] = True
        right = right[:, :classes]
        hit = ranks == 0
        # Among the right classes where one of them is best, else among the wrong ones.
        predicted = np.where(right == hit[:, None], logits, -np.inf).argmax(axis=1)
        first = np.take_along_axis(labels, (labels >= 0).argmax(axis=1)[:, None], 1)[:, 0]
        true = np.where(hit, predicted, first).astype(np.int64)
        cells, cell_count = np.unique(true * classes + predicted, return_counts=True)
        top = logits.max(axis=1, keepdims=True)
        confidence = np.exp(logits[rows, predicted] - top[:, 0])
        confidence /= np.exp(logits - top).sum(axis=1)
        place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
        units = np.rint(confidence / _UNIT).astype(np.int64)
        sums = np.zeros((3, bins), np.int64)
        for total, value in zip(sums, (1, hit, units), strict=True):
            np.add.at(total, place, value)
        return cls(classes, TopK.from_ranks(ranks, _KS), cells, cell_count, *sums)

    def __add__(self, other: ClassScores) -> ClassScores:
        mine, theirs = (self.classes, len(self.bin_count)), (other.classes, len(other.bin_count))
        if mine != theirs:
            raise ValueError(f"states of (classes, bins) {mine} and {theirs} do not merge")
        both = np.concatenate([self.cells, other.cells])
        cells, place = np.unique(both, return_inverse=True)
        cell_count = np.zeros(len(cells), np.int64)
        np.add.at(cell_count, place, np.concatenate([self.cell_count, other.cell_count]))
        return ClassScores(
            self.classes,
            self.top + other.top,
            cells,
            cell_count,
            self.bin_count + other.bin_count,
            self.bin_hits + other.bin_hits,
            self.bin_confidence + other.bin_confidence,
        )

    def confusion(self) -> Int[np.ndarray, "C C"]:
        """(C, C) int64, images by true class (row) and predicted class (column).

        Its sum is the count, its trace the top-1 hits.
        """
        matrix = np.zeros(self.classes**2, np.int64)
        matrix[self.cells] = self.cell_count
        return matrix.reshape(self.classes, self.classes)

    def of_class(self) -> Float[np.ndarray, "C"]:
        """(C,) top-1 accuracy of each class's images; NaN where it has none."""
        true, predicted = np.divmod(self.cells, self.classes)
        many, hits = np.zeros((2, self.classes), np.int64)
        np.add.at(many, true, self.cell_count)
        np.add.at(hits, true, np.where(true == predicted, self.cell_count, 0))
        return np.where(many > 0, hits / np.maximum(many, 1), np.nan)

    def mean_confidence(self) -> float:
        """Mean softmax of the predicted class.

        Raises:
            ValueError: nothing was counted.
        """
        return int(self.bin_confidence.sum()) * _UNIT / self._count()

    def reliability(self) -> list[dict[str, Any]]:
        """The reliability diagram: of each bin of confidence that has images, what came true.

        Returns:
            {"from", "to" (ends of the bin), "count" (images), "confidence" (their mean),
            "accuracy" (a fraction)} by ascending confidence.
        """
        many, found = len(self.bin_count), []
        for number, count in enumerate(self.bin_count.tolist()):
            if count:
                found.append(
                    {
                        "from": number / many,
                        "to": (number + 1) / many,
                        "count": count,
                        "confidence": int(self.bin_confidence[number]) * _UNIT / count,
                        "accuracy": int(self.bin_hits[number]) / count,
                    }
                )
        return found

    def calibration_error(self) -> float:
        """Expected calibration error: |accuracy - mean confidence| over bins, by their images.

        (Guo et al., arXiv 1706.04599, eq. 3.)
        """
        gap = np.abs(self.bin_hits - self.bin_confidence * _UNIT)
        return float(gap.sum() / self._count())

    def summary(self) -> dict[str, Any]:
        """`top1`, `top5`, `mean_of_classes` (those with images) and `calibration_error`, with
        `count`.

        Raises:
            ValueError: nothing was counted.
        """
        return {
            **self.top.fractions(),
            "mean_of_classes": float(np.nanmean(self.of_class())),
            "calibration_error": self.calibration_error(),
            "count": self._count(),
        }

    def _count(self) -> int:
        if self.top.count == 0:
            raise ValueError("no images were counted, so there is no score to give")
        return self.top.count
