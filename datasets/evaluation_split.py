"""One split of any data set, read once through for an evaluation: pictures, labels, captions.

Nothing is decoded before it is asked for, and only a batch of pictures is held at a time, so that
a split may be larger than memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .batches import Batch
from .evaluation_picture import Resize, picture
from .labelled import open_images
from .records import Prepared, RecordError, image_keys, open_data

_LABEL = "label"
_CAPTIONS = ("captions", "caption", "text", "title", _LABEL)
_LABELS = (_LABEL, "labels")
# Of a drawing's keywords, those of its second caption; as `byways evaluate` takes them.
_KEYWORDS = 4


@dataclasses.dataclass(frozen=True)
class SplitRow:
    """One row, its picture not decoded.

    Attributes:
        image: encoded bytes, or (H,W) or (H,W,3) uint8 pixels.
        labels: indices into the classes, any of which is right; none where there are no classes.
        captions: texts, the shortest name first, equal ones as often as the data has them; none
            where there are none.
        name: the record's own id, or its split and number.
        label_text: the label where it is text; None where there is none.
    """

    image: Any
    labels: tuple[int, ...]
    captions: tuple[str, ...]
    name: str
    label_text: str | None = None


@dataclasses.dataclass(frozen=True)
class EvaluationSplit:
    """A split, of N rows.

    Attributes:
        name: of the data set.
        split: which.
        classes: names of the classes, where it is labelled by numbers.
        captioned: whether rows have captions.
        count: N.
        read: gives the rows, in order, from the first on.
        text_labelled: whether rows are labelled by text.
    """

    name: str
    split: str
    classes: tuple[str, ...] | None
    captioned: bool
    count: int
    read: Callable[[], Iterator[SplitRow]]
    text_labelled: bool = False

    def rows(self, limit: int | None = None) -> Iterator[tuple[int, SplitRow]]:
        """Rows with their numbers; of more than `limit`, as many, drawn by seed 0, in order."""
        kept = None
        if limit is not None and limit < self.count:
            # RandomState's stream is frozen by NumPy's policy; a Generator's may change.
            chosen = np.random.RandomState(0).permutation(self.count)[:limit]
            kept = set(chosen.tolist())
        for number, row in enumerate(self.read()):
            if kept is None or number in kept:
                yield number, row

    def batches(
        self, batch_size: int, image_size: int, resize: Resize = "crop", limit: int | None = None
    ) -> Iterator[tuple[Batch, list[SplitRow]]]:
        """Batches, the last one filled with black, beside their rows.

        Args:
            batch_size: B.
            image_size: S.
            resize: how pictures of another size become S by S: see `picture`.
            limit: as of `rows`.

        Yields:
            `image` (B,S,S,3) uint8, `mask` (B,) bool and `id` (B,) int64, the row's number or -1;
            and the rows, at most B.

        Raises:
            RecordError: a picture that does not decode (which).
        """
        numbers: list[int] = []
        rows: list[SplitRow] = []
        pixels: list[np.ndarray] = []
        for number, row in self.rows(limit):
            try:
                pixels.append(picture(row.image, image_size, resize))
            except (OSError, ValueError, SyntaxError) as error:
                raise RecordError(
                    f"Row {number} of {self.split} ({row.name}) of {self.name} does not decode:"
                    f" {error}. Mend it, or leave it out of the data."
                ) from error
            numbers.append(number)
            rows.append(row)
            if len(rows) == batch_size:
                yield _batch(numbers, pixels, batch_size), rows
                numbers, rows, pixels = [], [], []
        if rows:
            yield _batch(numbers, pixels, batch_size), rows


def _batch(numbers: list[int], pixels: list[np.ndarray], batch_size: int) -> Batch:
    image = np.zeros((batch_size, *pixels[0].shape), np.uint8)
    image[: len(pixels)] = pixels
    ids = np.full(batch_size, -1, np.int64)
    ids[: len(numbers)] = numbers
    return {"image": image, "mask": ids >= 0, "id": ids}


def open_split(
    name: str, data_dir: str | Path | None = None, split: str | None = None
) -> EvaluationSplit:
    """A split of `fashion_mnist`, of what ships, of openclipart, or of any prepared data set.

    Labels are `label` or `labels`, a ClassLabel or a sequence of them; captions `captions`,
    `caption`, `text`, `title` or a `label` that is text, one or several, beside which `keywords`
    make one more (the first four, in a row). A `label` that is text is the label, whatever the
    captions are; no caption ever is one.

    Args:
        name: the data set.
        data_dir: where prepared data sets are; of Fashion-MNIST the folder of its files.
        split: which; None is `test`, else `validation`, else the first.

    Raises:
        RecordError: the data set is absent (how to get it) or corrupt, has no pictures, or no
            such split.
    """
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    if name == "fashion_mnist":
        return _fashion(folder, split)
    prepared = open_data(name, folder)
    chosen = _chosen(name, [one for one, rows in prepared.splits.items() if rows], split)
    features = prepared.features()
    images = image_keys(features)
    if not images:
        raise RecordError(f"{name} has no image feature; it has {', '.join(features)}.")
    found = {key: names for key in _LABELS if key in features if (names := _names(features[key]))}
    label = next(iter(found), None)
    texts = [key for key in _CAPTIONS if key in features and (key != _LABEL or _is_text(features))]
    caption = next(iter(texts), None)
    # Of several texts none is the label.
    named = _LABEL in texts and features[_LABEL].shape == ()
    classes = None
    if label is not None:
        classes = tuple(str(one) for one in found[label])

    def read() -> Iterator[SplitRow]:
        return _rows(prepared, chosen, images[0], label, caption, named)

    count = prepared.splits[chosen]
    return EvaluationSplit(name, chosen, classes, caption is not None, count, read, named)


def _chosen(name: str, there: list[str], split: str | None) -> str:
    if not there:
        raise RecordError(f"{name} has no rows at all: prepare it again.")
    if split is None:
        return next((one for one in ("test", "validation") if one in there), there[0])
    if split not in there:
        raise RecordError(f"{name} has no split {split!r}; there are: {', '.join(there)}.")
    return split


def _names(feature: Any) -> list[str] | None:
    """Of a ClassLabel, or of a sequence of them, the names."""
    return getattr(getattr(feature, "feature", feature), "names", None)


def _is_text(features: Any) -> bool:
    """Whether `label` is text, one or several, rather than a number or a class."""
    return features[_LABEL].np_dtype == np.object_


def _rows(
    prepared: Prepared, split: str, image: str, label: str | None, caption: str | None, named: bool
) -> Iterator[SplitRow]:
    for number, row in enumerate(prepared.rows(split, decode=False)):
        labels = () if label is None else tuple(int(one) for one in np.atleast_1d(row[label]))
        try:
            captions = () if caption is None else _captions(row, caption)
        except UnicodeDecodeError as error:
            where = f"row {number} of {split} in {prepared.folder}"
            raise RecordError(f"{where} does not parse ({error}).") from error
        name = str(row.get("id") or f"{split}/{number}")
        text = row[_LABEL].strip() if named else None
        # A class that is not known is -1 in TFDS; one that is named twice is one right answer.
        known = tuple(one for one in dict.fromkeys(labels) if one >= 0)
        yield SplitRow(row[image], known, captions, name, text or None)


def _captions(row: dict[str, Any], key: str) -> tuple[str, ...]:
    value = row[key]
    if isinstance(value, dict):  # as COCO's, each a text with a number
        value = value.get("text", ())
    several = [value] if isinstance(value, str | bytes) else list(value)
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in several]
    words = list(row.get("keywords", ()))
    if words:
        texts.append(" ".join(words[:_KEYWORDS]))
    return tuple(text.strip() for text in texts if text.strip())


def _fashion(folder: Path | None, split: str | None) -> EvaluationSplit:
    data = open_images("fashion_mnist", folder)
    chosen = _chosen("fashion_mnist", [one for one in data.splits if len(data.splits[one])], split)
    numbers = data.rows(chosen)

    def read() -> Iterator[SplitRow]:
        for number in numbers:
            label = int(data.labels[number])
            yield SplitRow(data.images[number], (label,), (), f"{chosen}/{number}")

    return EvaluationSplit("fashion_mnist", chosen, data.classes, False, len(numbers), read)
