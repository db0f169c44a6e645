"""Small pictures as `data:` addresses, and the place of a patch within its surroundings."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

# A crop is not shown larger than this many of its own pixels.
_LARGEST = 64


@dataclasses.dataclass(frozen=True)
class Patch:
    """A patch within its picture, as the page shows it.

    Attributes:
        source: `data:` address of the picture, or of the patch's surroundings.
        left, top, size: the patch, in per cent of that.
        label: what the drawing shows.
    """

    source: str
    left: float
    top: float
    size: float
    label: str


def data_address(pixels: UInt8[np.ndarray, "h w 3"], largest: int = _LARGEST) -> str:
    """A picture as a `data:` address of a PNG of at most `largest` pixels a side."""
    target = io.BytesIO()
    image = Image.fromarray(pixels)
    if max(image.size) > largest:
        image.thumbnail((largest, largest), Image.Resampling.LANCZOS)
    image.save(target, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


def patch(
    pixels: UInt8[np.ndarray, "S S 3"], index: int, patch_size: int, label: str, around: int = 4
) -> Patch:
    """A patch with what surrounds it: `around` patches a side, less where the picture ends.

    Args:
        pixels: the whole picture.
        index: of the patch, row by row.
        patch_size: pixels.
        label: what the drawing shows.
        around: side of the surroundings, in patches.
    """
    side = pixels.shape[0] // patch_size
    row, column = divmod(index, side)
    span = min(around, side)
    first_row = min(max(row - (span - 1) // 2, 0), side - span)
    first_column = min(max(column - (span - 1) // 2, 0), side - span)
    y, x, length = first_row * patch_size, first_column * patch_size, span * patch_size
    return Patch(
        data_address(pixels[y : y + length, x : x + length]),
        100 * (column - first_column) / span,
        100 * (row - first_row) / span,
        100 / span,
        label,
    )
