"""The images of a folder, in one order, in batches that are the same every time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, UInt8

from ...datasets import picture
from ..errors import UsageError

Resize = Literal["crop", "short_side", "squash", "central"]

SUFFIXES = (
    ".avif",
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """A file that should be an image; it is not opened yet.

    Attributes:
        path: below the folder, with slashes.
        size: in bytes.
        changed: when, in nanoseconds since 1970.
    """

    path: str
    size: int
    changed: int


@dataclasses.dataclass(frozen=True)
class ImageBatch:
    """B places for images.

    Attributes:
        number: of the batch, from 0.
        image: black where there is none, or none that can be read.
        mask: true at images.
        table: of each file its path and size, and `sha256` of its bytes or `error`.
    """

    number: int
    image: UInt8[np.ndarray, "B S S 3"]
    mask: Bool[np.ndarray, " B"]
    table: tuple[dict[str, Any], ...]


def list_images(folder: Path) -> list[ImageFile]:
    """All files below a folder with an image's suffix, by path; hidden ones are passed over.

    Raises:
        UsageError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"{folder} {what}: name a folder of images")
    found: list[ImageFile] = []
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                full = Path(above, name)
                try:
                    about = full.stat()
                except OSError:  # a link to nothing: told of when it is read
                    about = full.lstat()
                path = full.relative_to(folder).as_posix()
                found.append(ImageFile(path, about.st_size, about.st_mtime_ns))
    if not found:
        kinds = ", ".join(suffix[1:] for suffix in SUFFIXES)
        raise UsageError(f"{folder} has no images in it ({kinds})")
    return sorted(found, key=lambda file: file.path)


def listing_sha256(files: Sequence[ImageFile]) -> str:
    """Of paths, sizes and times: whether it is still the folder that it was."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.path) + f"\0{file.size} {file.changed}\n".encode())
    return digest.hexdigest()


def load_batch(
    folder: Path,
    files: Sequence[ImageFile],
    number: int,
    *,
    batch_size: int,
    image_size: int,
    resize: Resize,
) -> ImageBatch:
    """Reads one batch; an image that cannot be read leaves its place empty.

    Args:
        folder, files: as of `list_images`.
        number: of the batch.
        batch_size: B.
        image_size: S.
        resize: as of `byways score`.
    """
    image = np.zeros((batch_size, image_size, image_size, 3), np.uint8)
    mask, table = np.zeros(batch_size, bool), []
    begin = number * batch_size
    for place, file in enumerate(files[begin : begin + batch_size]):
        row: dict[str, Any] = {"path": file.path, "bytes": file.size}
        try:
            data = (folder / file.path).read_bytes()
            image[place] = picture(data, image_size, resize)
        except MemoryError:
            raise
        except Exception as error:  # whatever a decoder raises of bytes that are no image
            row["error"] = _said(error)
        else:
            mask[place] = True
            row["sha256"] = hashlib.sha256(data).hexdigest()
        table.append(row)
    return ImageBatch(number, image, mask, tuple(table))


def _said(error: Exception) -> str:
    """The same for the same bytes, whatever process and folder."""
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"
    said = re.sub(r"<_io.BytesIO object at \w+>", "it", str(error))
    return f"{type(error).__name__}: {said}"
