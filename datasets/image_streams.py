"""Batches of labelled images: an endless training stream that resumes exactly, and evaluation's."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from PIL import Image

from .batches import Batch
from .config import ImageDataConfig
from .labelled import LabelledImages, open_images
from .records import RecordError, check_trainable
from .streams import TrainStream


@functools.lru_cache(maxsize=2)
def _load(name: str, data_dir: str | None, image_size: int) -> LabelledImages:
    return open_images(name, data_dir, image_size)


def load_images(config: ImageDataConfig, image_size: int = 32) -> LabelledImages:
    """The whole data set that `config` names; the same object if asked again.

    Raises:
        RecordError: it is absent, corrupt or has no class labels.
    """
    return _load(config.name, config.data_dir, image_size)


def fit_images(images: np.ndarray, image_size: int) -> np.ndarray:
    """Squares of another size, (B,H,H) or (B,H,H,3) uint8 in and (B,S,S) or (B,S,S,3) out.

    Images at most a quarter smaller than S are laid in the middle of black (28 to 32 pixels),
    which changes no pixel; others are resized bilinearly.
    """
    side = images.shape[1]
    margin = image_size - side
    if margin == 0:
        return images
    if 0 < margin <= side // 4:
        edge = (margin // 2, margin - margin // 2)
        return np.pad(images, [(0, 0), edge, edge] + [(0, 0)] * (images.ndim - 3))
    size = (image_size, image_size)
    resized = [Image.fromarray(i).resize(size, Image.Resampling.BILINEAR) for i in images]
    return np.stack([np.asarray(image) for image in resized])


class ImageBatches:
    """Batch number i of an endless training stream is `batches[i]`; the randomness is (seed, i).

    An epoch goes through a new permutation of the training rows; a batch that would straddle
    two epochs is left out.

    Args:
        data: the data set; only its split `train` is drawn from.
        config: the augmentation.
        batch_size: B.
        seed: of the stream.
        image_size: S.

    Raises:
        RecordError: no training rows.
        ValueError: a batch size, image size or shift out of range.
    """

    def __init__(
        self,
        data: LabelledImages,
        config: ImageDataConfig,
        batch_size: int,
        seed: int = 0,
        image_size: int = 32,
    ):
        _positive(batch_size=batch_size, image_size=image_size)
        if not 0 <= config.shift < image_size:
            raise ValueError(
                f"shift is {config.shift} pixels; it must be from 0 to below the image size,"
                f" {image_size}."
            )
        check_trainable(data.splits)
        rows = data.rows("train")
        if len(rows) == 0:
            raise RecordError("There is no row to train on in the split `train`.")
        self._data = data
        self._rows = rows
        self._config = config
        self._batch_size = batch_size
        self._seed = seed
        self._size = image_size
        self._batches_an_epoch = max(1, len(rows) // batch_size)

    def __getitem__(self, index: int) -> Batch:
        """Batch `index`: `image` (B,S,S,3) uint8, `label` (B,) int32, `mask` (B,) bool and `id`
        (B,) int64, the row's number in the data set.
        """
        epoch, part = divmod(index, self._batches_an_epoch)
        order = np.random.default_rng([self._seed, 2, epoch]).permutation(len(self._rows))
        picks = order[part * self._batch_size : (part + 1) * self._batch_size]
        # More to a batch than there are rows: go round again.
        ids = self._rows[np.resize(picks, self._batch_size)]
        images = fit_images(self._data.images[ids], self._size)
        images = _augment(images, self._config, np.random.default_rng([self._seed, 1, index]))
        return _batch(images, self._data.labels[ids], ids)


def _augment(images: np.ndarray, config: ImageDataConfig, rng: np.random.Generator) -> np.ndarray:
    many, side = images.shape[:2]
    corner = rng.integers(0, 2 * config.shift + 1, (2, many, 1))
    mirror = rng.random(many) < 0.5
    y, x = corner + np.arange(side)
    if config.flip:
        x = np.where(mirror[:, None], x[:, ::-1], x)
    edge = (config.shift, config.shift)
    wide = np.pad(images, [(0, 0), edge, edge] + [(0, 0)] * (images.ndim - 3))
    return wide[np.arange(many)[:, None, None], y[:, :, None], x[:, None, :]]


def _batch(images: np.ndarray, labels: np.ndarray, ids: np.ndarray) -> Batch:
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=3)
    return {
        "image": images,
        "label": labels.astype(np.int32),
        "mask": np.ones(len(ids), bool),
        "id": ids.astype(np.int64),
    }


def make_image_stream(
    config: ImageDataConfig, batch_size: int, seed: int = 0, image_size: int = 32
) -> TrainStream:
    """The training stream that `config` describes.

    Args:
        config: the data.
        batch_size: B.
        seed: of the order and the augmentation.
        image_size: S.

    Returns:
        Batches of `image` (B,S,S,3) uint8, `label` (B,) int32, `mask` (B,) bool and `id` (B,)
        int64.

    Raises:
        RecordError: the data set is absent, corrupt or has no class labels.
        ValueError: a value out of range.
    """
    data = load_images(config, image_size)
    batches = ImageBatches(data, config, batch_size, seed, image_size)
    return TrainStream(batches, config.workers)


def image_evaluation_batches(
    config: ImageDataConfig, split: str, batch_size: int, image_size: int = 32
) -> Iterator[Batch]:
    """A split once through, in order, unaugmented.

    Args:
        config: the data.
        split: `train`, `validation` or `test`.
        batch_size: B of every batch. The last one is filled with black images whose `mask` is
            False and whose `label` and `id` are -1.
        image_size: S.

    Returns:
        Batches as those of `make_image_stream`.

    Raises:
        RecordError: the data set is absent, corrupt or has no class labels.
        ValueError: no such split, or a size that is not positive.
    """
    _positive(batch_size=batch_size, image_size=image_size)
    data = load_images(config, image_size)
    return batches_of_rows(data, data.rows(split), batch_size, image_size)


def batches_of_rows(
    data: LabelledImages, rows: np.ndarray, batch_size: int, image_size: int = 32
) -> Iterator[Batch]:
    """Rows of a data set by number, in the order given, as `image_evaluation_batches` has them."""
    fill = {"image": 0, "label": -1, "mask": False, "id": -1}
    for start in range(0, len(rows), batch_size):
        ids = rows[start : start + batch_size]
        batch = _batch(fit_images(data.images[ids], image_size), data.labels[ids], ids)
        missing = batch_size - len(ids)
        yield {
            key: np.pad(
                value, [(0, missing)] + [(0, 0)] * (value.ndim - 1), constant_values=fill[key]
            )
            for key, value in batch.items()
        }


def _positive(**sizes: int) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name} is {value}, and must be at least 1.")
