"""What the data is, as data: frozen dataclasses that import neither JAX nor Grain."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Changes of a training image that keep its caption true.

    Attributes:
        shift: largest translation, as a share of the image's side.
        zoom: largest relative change of scale (0.2 draws from [1/1.2, 1.2]).
        rotate: largest rotation, degrees.
        shear: largest shear, as a tangent.
        colour: strength of brightness, contrast and saturation changes, 0 to 1.
        flip: mirror left-right half of the time, where the caption names no side.
        background: share of drawings laid on a random colour instead of white.
    """

    shift: float = 0.08
    zoom: float = 0.2
    rotate: float = 10.0
    shear: float = 0.0
    colour: float = 0.3
    flip: bool = True
    background: float = 0.2


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """A training stream of images with captions.

    Attributes:
        name: `emoji_art`, `emoji_scenes`, or any TFDS data set prepared as ArrayRecord.
        data_dir: where prepared data sets are; None is the copy shipped in the package.
        scenes_share: share of `emoji_scenes` examples mixed into `emoji_art`.
        objects_only: train on the object concepts alone (animals, food, travel, activities,
            objects), rather than on faces, people and symbols as well.
        label_share: share of captions that are the label alone, without keywords.
        tokenizer: a SentencePiece `.model` file; None is the one shipped.
        text_length: tokens per caption, padding included; longer text is cut and counted.
        workers: Grain worker processes; 0 reads in this process (with prefetching threads).
        on_bad_image: `skip` (and count) rows whose image does not decode or whose caption is
            empty, or raise an `error`.
        augment: changes of training images.
    """

    name: str = "emoji_art"
    data_dir: str | None = None
    scenes_share: float = 0.0
    objects_only: bool = False
    label_share: float = 0.5
    tokenizer: str | None = None
    text_length: int = 12
    workers: int = 0
    on_bad_image: Literal["skip", "error"] = "error"
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)


@dataclasses.dataclass(frozen=True)
class ImageDataConfig:
    """A training stream of images with class labels.

    Attributes:
        name: `fashion_mnist` (Debian's package `dataset-fashion-mnist`), or any TFDS data set
            with the features `image` and `label` that is prepared as ArrayRecord.
        data_dir: Fashion-MNIST: the folder of its four files, None being the package's. Others:
            where prepared data sets are.
        shift: largest translation of a training image, pixels; what comes in is black.
        flip: mirror training images left-right half of the time.
        workers: Grain worker processes; 0 reads in this process (with a prefetching thread).
    """

    name: str = "fashion_mnist"
    data_dir: str | None = None
    shift: int = 2
    flip: bool = True
    workers: int = 0
