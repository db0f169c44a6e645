"""Fashion-MNIST (Xiao et al., arXiv 1708.07747), as Debian packages it: four gzipped IDX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .idx import read_idx
from .records import RecordError

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = {"train": "train", "test": "t10k"}


def read_fashion_mnist(
    folder: Path | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (n,28,28) uint8 and labels (n,) int32 in 0..9 of `train` and `test`.

    Args:
        folder: of the four files; None is where the Debian package puts them.

    Raises:
        RecordError: a file is absent (how to get it) or corrupt, or the files do not fit
            together.
    """
    folder = FOLDER if folder is None else folder
    names = [f"{stem}-{kind}-ubyte.gz" for stem in _FILES.values()
             for kind in ("images-idx3", "labels-idx1")]  # fmt: skip
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise RecordError(
            f"Fashion-MNIST is not in {folder}: {', '.join(missing)} missing. On Debian and Ubuntu,"
            " `apt install dataset-fashion-mnist`; or set --data.data-dir to the folder of its four"
            " files."
        )
    parts = {}
    for split, stem in _FILES.items():
        images = read_idx(folder / f"{stem}-images-idx3-ubyte.gz", 3)
        labels = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz", 1)
        if len(images) != len(labels):
            raise RecordError(
                f"{folder} has {len(images)} images and {len(labels)} labels of {split}: the files"
                " are not of one set. Install or fetch them again."
            )
        if len(labels) == 0 or images.shape[1:] != (28, 28):
            raise RecordError(
                f"{folder} has images of the shape {images.shape} in {split}, where (n,28,28) with"
                " n > 0 is expected: these are not Fashion-MNIST's files."
            )
        if labels.max() >= len(CLASSES):
            raise RecordError(
                f"{folder} has the label {labels.max()} in {split}, and Fashion-MNIST's go from 0"
                f" to {len(CLASSES) - 1}: these are not its files."
            )
        parts[split] = (images, labels.astype(np.int32))
    return parts
