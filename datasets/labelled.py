"""Images with class labels in memory, found by name: Fashion-MNIST or a prepared data set."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from .examples import load_examples
from .fashion_mnist import CLASSES, read_fashion_mnist
from .records import RecordError, open_data

# Of Fashion-MNIST's 60,000 training rows, 5,000.
_HELD_OUT = 12


@dataclasses.dataclass(frozen=True)
class LabelledImages:
    """All rows of a data set, N of them, over all splits in the order of the files.

    Attributes:
        images: (N,H,W) grey or (N,H,W,3) uint8.
        labels: (N,) int32 index into `classes`.
        classes: their names.
        splits: for each split (`train`, `validation`, usually `test`) the (n,) int64 numbers of
            its rows, disjoint from the others'.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, np.ndarray]

    def rows(self, split: str) -> np.ndarray:
        """(n,) int64 numbers of the rows of a split.

        Raises:
            ValueError: no such split (those there are, are given).
        """
        if split not in self.splits:
            raise ValueError(f"No split {split!r}; there are: {', '.join(self.splits)}.")
        return self.splits[split]


def open_images(
    name: str = "fashion_mnist", data_dir: str | Path | None = None, image_size: int = 32
) -> LabelledImages:
    """Reads a whole set of labelled images.

    A set without a split `validation` gives a twelfth of its training rows for it (of
    Fashion-MNIST's 60,000 therefore 5,000): the last ones of a fixed permutation.

    Args:
        name: `fashion_mnist`, or a TFDS data set with `image` and `label` prepared as ArrayRecord.
        data_dir: of Fashion-MNIST the folder of its four files, None being the Debian package's;
            of others where prepared data sets are.
        image_size: what the images of a prepared set are cropped and resized to (they differ in
            size); Fashion-MNIST's stay as they are.

    Raises:
        RecordError: the set is absent (how to get it), corrupt or has no class labels.
    """
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    if name == "fashion_mnist":
        parts = read_fashion_mnist(folder)
        images = np.concatenate([images for images, _ in parts.values()])
        labels = np.concatenate([labels for _, labels in parts.values()])
        many = len(parts["train"][1])
        splits = {"train": np.arange(many), "test": np.arange(many, len(labels))}
        return LabelledImages(images, labels, CLASSES, _with_validation(splits))
    return _open_prepared(name, folder, image_size)


def _open_prepared(name: str, folder: Path | None, image_size: int) -> LabelledImages:
    prepared = open_data(name, folder)
    features = prepared.features()
    names = getattr(features["label"], "names", None) if "label" in features else None
    if names is None:
        raise RecordError(
            f"{name} has no class labels: the feature `label` with class names is needed, and it"
            f" has {', '.join(features)}."
        )
    examples = load_examples(prepared, image_size)
    numbers = {str(label).replace("_", " "): i for i, label in enumerate(names)}
    try:
        table = np.array([numbers[concept.label] for concept in examples.concepts], np.int32)
    except KeyError as error:
        raise RecordError(
            f"{name} has captions beside its labels, such as {error}; a classifier cannot be"
            " trained on it. Prepare it with `image` and `label` alone."
        ) from error
    splits = {split: examples.rows(split) for split in prepared.splits if prepared.splits[split]}
    images = examples.images(np.arange(len(examples)))
    return LabelledImages(images, table[examples.concept], tuple(numbers), _with_validation(splits))


def _with_validation(splits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    train = splits.get("train")
    if train is None or "validation" in splits or len(train) < _HELD_OUT:
        return splits
    # RandomState's stream is frozen by NumPy's policy; a Generator's may change.
    order = np.random.RandomState(0).permutation(len(train))
    kept = len(train) - len(train) // _HELD_OUT
    held = {"train": np.sort(train[order[:kept]]), "validation": np.sort(train[order[kept:]])}
    return {**splits, **held}
