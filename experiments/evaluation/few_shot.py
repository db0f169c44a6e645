"""Few-shot classification: how much a frozen model's features say, by ridge regression.

The protocol of V-MoE (Riquelme et al., arXiv 2106.05974, sec. 3.2) and big_vision: so many images
of each class are the support; a linear map from their features is scored on the test split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from ...datasets import LabelledImages, batches_of_rows
from .features import Features, FeaturesFn, collect_features
from .metrics import TopK, label_ranks
from .ridge import Ridge


@dataclasses.dataclass(frozen=True)
class FewShotProtocol:
    """How a few-shot score is taken.

    Attributes:
        shots: images of each class in the support.
        seeds: of the choice of these images; scores are summed over them.
        lambdas: regularisation strengths; with more than one, the best is chosen for each
            number of shots, over all seeds together (equal ones: the largest).
        choose_on: the split that λ is chosen on. `test` is what V-MoE's code does (there by the
            mean rank over several data sets): such a score has seen the answers, says so in
            its row, and is for comparing with published numbers only.
    """

    shots: tuple[int, ...] = (1, 5, 10, 25)
    seeds: tuple[int, ...] = (0,)
    lambdas: tuple[float, ...] = tuple(2.0**power for power in range(-10, 20))
    choose_on: Literal["validation", "test"] = "validation"

    def __post_init__(self):
        if not (self.shots and self.seeds and self.lambdas):
            raise ValueError("shots, seeds and lambdas need one value each at least")
        if min(self.shots) < 1:
            raise ValueError(f"shots {self.shots} must be at least 1")
        if not min(self.lambdas) > 0:
            raise ValueError(f"lambdas {self.lambdas} must be above 0")


# λ fixed at 2^10, three seeds.
BIG_VISION = FewShotProtocol(seeds=(0, 1, 2), lambdas=(2.0**10,))


@dataclasses.dataclass(frozen=True)
class FewShotRow:
    """The score of one number of shots.

    Attributes:
        shots, classes: of the support, in which there are shots * classes images.
        lam: λ.
        chosen_on: where λ was chosen: `validation`, `test`, or `fixed` (there was but one).
        test: hits and counts on the test split, summed over the seeds.
        of_seed: the same of each seed, in order.
    """

    shots: int
    classes: int
    lam: float
    chosen_on: str
    test: TopK
    of_seed: tuple[TopK, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: accuracies, and the integers that they are quotients of."""
        seeds = [one.fractions()["top1"] for one in self.of_seed]
        return {
            "shots": self.shots,
            "classes": self.classes,
            "lambda": self.lam,
            "chosen_on": self.chosen_on,
            "accuracy": self.test.fractions()["top1"],
            "hits": self.test.hits[0],
            "count": self.test.count,
            "of_seed": seeds,
        }


def choose_support(
    labels: Int[np.ndarray, "N"], classes: int, shots: int, seed: int
) -> Int[np.ndarray, "n"]:
    """Numbers of the support's rows, shots of each class, class by class.

    One generator permutes the rows of each class in turn, as in both published codes, so
    that fewer shots are a part of more.

    Raises:
        ValueError: a class has fewer rows than that.
    """
    rng = np.random.default_rng(seed)
    chosen = []
    for number in range(classes):
        rows = np.flatnonzero(labels == number)
        if len(rows) < shots:
            raise ValueError(
                f"class {number} has {len(rows)} training images, fewer than the {shots} shots "
                "asked for: take fewer shots, or give more images"
            )
        chosen.append(rng.permutation(rows)[:shots])
    return np.concatenate(chosen)


def few_shot_rows(
    support: Features,
    validation: Features | None,
    test: Features,
    protocol: FewShotProtocol | None = None,
    classes: int | None = None,
) -> list[FewShotRow]:
    """Scores features by few-shot ridge regression, one row a number of shots.

    An image is a hit where the best right class scores more than every wrong one; a tie counts
    against the model. (Published codes give a tie to the lower class.)

    Args:
        support: the training split, of which the support is drawn.
        validation: where λ is chosen; may be None where nothing is chosen on it.
        test: what is scored.
        protocol: V-MoE's grid, chosen on validation, unless told.
        classes: C; None is one more than the largest label in the support.

    Raises:
        ValueError: a class with fewer images than shots, features that are not finite or differ
            in size, labels out of range, nothing to choose λ on, or λ ≤ 0.
    """
    labels = support.labels
    if labels.ndim != 1:
        raise ValueError(f"the support's labels have the shape {labels.shape}, expected (N,)")
    many = _check_labels(labels, classes)
    protocol = protocol or FewShotProtocol()
    _check({"support": support, "validation": validation, "test": test})
    return _rows(labels, many, support.features.__getitem__, validation, test, protocol)


def _rows(
    labels: Int[np.ndarray, "N"],
    classes: int,
    features_of: Callable[[np.ndarray], np.ndarray],
    validation: Features | None,
    test: Features,
    protocol: FewShotProtocol,
) -> list[FewShotRow]:
    chosen_on, judge = protocol.choose_on, test
    if len(protocol.lambdas) == 1:
        chosen_on = "fixed"
    elif protocol.choose_on == "validation":
        if validation is None or len(validation.labels) == 0:
            raise ValueError(
                "there is no validation split to choose λ on: give one, or a single λ "
                '(`choose_on="test"` is the published way, and sees the answers)'
            )
        judge = validation
    rows = []
    for shots in protocol.shots:
        fits = []
        for seed in protocol.seeds:
            chosen = choose_support(labels, classes, shots, seed)
            fits.append(Ridge(features_of(chosen), labels[chosen], classes))
        lam = protocol.lambdas[0]
        if chosen_on != "fixed":
            hits = {one: _sum(_score(fit, judge, one) for fit in fits).hits
                    for one in protocol.lambdas}  # fmt: skip
            lam = max(hits, key=lambda one: (hits[one], one))
        of_seed = tuple(_score(fit, test, lam) for fit in fits)
        rows.append(FewShotRow(shots, classes, lam, chosen_on, _sum(of_seed), of_seed))
    return rows


def _score(fit: Ridge, split: Features, lam: float) -> TopK:
    labels = split.labels.reshape(len(split.labels), -1)
    return TopK.from_ranks(label_ranks(fit.scores(split.features, lam), labels), (1,))


def _sum(states: Iterable[TopK]) -> TopK:
    return sum(states, start=TopK.empty((1,)))


def _check_labels(labels: Int[np.ndarray, "N"], classes: int | None) -> int:
    if len(labels) == 0:
        raise ValueError("the support has no images")
    many = int(labels.max()) + 1 if classes is None else classes
    if labels.min() < 0 or labels.max() >= many:
        raise ValueError(
            f"the support's labels go from {labels.min()} to {labels.max()}, expected 0 to "
            f"{many - 1}"
        )
    return many


def _check(splits: dict[str, Features | None]) -> None:
    width = None
    for name, split in splits.items():
        if split is None:
            continue
        if len(split.features) != len(split.labels):
            raise ValueError(
                f"{name} has {len(split.features)} features and {len(split.labels)} labels"
            )
        if not np.isfinite(split.features).all():
            raise ValueError(f"{name} has features that are not finite: the model has diverged")
        width = width or split.features.shape[1]
        if split.features.shape[1] != width:
            raise ValueError(
                f"{name} has {split.features.shape[1]} features an image, the support {width}"
            )


def few_shot_of_classifier(
    features_fn: FeaturesFn,
    data: LabelledImages,
    image_size: int = 32,
    protocol: FewShotProtocol | None = None,
    batch_size: int = 256,
) -> list[FewShotRow]:
    """As `few_shot_rows`, of a model: only the images that the support needs are embedded.

    Args:
        features_fn: as of `collect_features`; `vmoe_features` makes one.
        data: with the splits `train`, `test` and, where λ is chosen on it, `validation`.
        image_size: S.
        protocol: V-MoE's grid, chosen on validation, unless told.
        batch_size: B of every call of `features_fn`.

    Raises:
        ValueError: as `few_shot_rows`, or a split is missing.
    """
    protocol = protocol or FewShotProtocol()
    train, classes = data.rows("train"), len(data.classes)
    labels = data.labels[train]
    # Fewer shots are a part of more.
    needed = [choose_support(labels, classes, max(protocol.shots), s) for s in protocol.seeds]
    needed = np.unique(np.concatenate(needed))

    def embedded(rows: np.ndarray) -> Features:
        return collect_features(features_fn, batches_of_rows(data, rows, batch_size, image_size))

    support, test = embedded(train[needed]), embedded(data.rows("test"))
    validation = None
    if len(protocol.lambdas) > 1 and protocol.choose_on == "validation":
        validation = embedded(data.rows("validation"))
    _check({"support": support, "validation": validation, "test": test})

    def of_rows(rows: np.ndarray) -> np.ndarray:
        return support.features[np.searchsorted(needed, rows)]

    return _rows(labels, classes, of_rows, validation, test, protocol)
