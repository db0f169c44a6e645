"""A picture at the model's size, in each way that published evaluations have.

What a picture becomes before a model sees it moves a score, so each way follows its code to the
rounding: sizes, the corner of the crop, the filter, and how fractions become uint8.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps

from .decoding import as_rgba
from .emoji_art.render import on_white
from .image_streams import fit_images

Resize = Literal["crop", "short_side", "squash", "central"]


def picture(image: Any, size: int, resize: Resize = "crop") -> np.ndarray:
    """A picture as (S,S,3) uint8, over white where it is transparent.

    Args:
        image: encoded bytes; or uint8 pixels, which only `fit_images` changes.
        size: S.
        resize: `crop`, the largest square in the middle, by Lanczos, which is what training
            sees. `short_side`, the shorter side to S, bicubic, then the middle, as torchvision
            for CLIP. `squash`, both sides to S, bilinear without antialiasing, and `central`, the
            shorter side to S / 0.875, by area, then the middle, as big_vision.

    Raises:
        OSError, ValueError, SyntaxError: bytes of no picture, or of more pixels than Pillow takes.
    """
    if isinstance(image, np.ndarray):
        fitted = fit_images(image[None], size)[0]
        return np.repeat(fitted[..., None], 3, axis=2) if fitted.ndim == 2 else fitted
    rgba = as_rgba(image)
    if resize == "crop":
        if rgba.size != (size, size):
            rgba = ImageOps.fit(rgba, (size, size), Image.Resampling.LANCZOS)
        return on_white(np.asarray(rgba))
    rgb = on_white(np.asarray(rgba))
    if resize == "squash":
        return squashed(rgb, size)
    return _central(rgb, size) if resize == "central" else _short_side(rgb, size)


def squashed(pixels: UInt8[np.ndarray, "H W 3"], size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Both sides to S as big_vision's `resize`: see `bilinear`; fractions are cut, not rounded."""
    return bilinear(pixels, size).astype(np.uint8)


def bilinear(pixels: UInt8[np.ndarray, "H W 3"], size: int) -> Float[np.ndarray, "S S 3"]:
    """Between the four nearest pixels, however much it shrinks: no antialiasing.

    Centres of pixels are at halves. In float32 and in TensorFlow's order, because cutting the
    fractions afterwards turns a last bit into a whole step.
    """
    high, wide = pixels.shape[:2]
    top, bottom, down = _between(high, size)
    left, right, along = _between(wide, size)
    along = along[:, None]

    def across(rows: np.ndarray) -> np.ndarray:
        return rows[:, left] + (rows[:, right] - rows[:, left]) * along

    # As float32 only the rows that are looked at: a photograph has many more.
    upper, lower = (across(pixels[rows].astype(np.float32)) for rows in (top, bottom))
    return upper + (lower - upper) * down[:, None, None]


def _between(side: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each new pixel the two old ones that it lies between, and how far along."""
    half = np.float32(0.5)
    at = (np.arange(size, dtype=np.float32) + half) * np.float32(side / size) - half
    first = np.floor(at)
    below = first.astype(np.int64)
    return np.maximum(below, 0), np.minimum(below + 1, side - 1), at - first


def _central(pixels: np.ndarray, size: int) -> np.ndarray:
    """As big_vision's `resize_small(S / 0.875)` and `central_crop(S)`."""
    high, wide = pixels.shape[:2]
    # Its sizes are float32; both round halves to even.
    scale = np.float32(round(size / 0.875)) / np.float32(min(high, wide))
    new_high, new_wide = (int(np.round(np.float32(side) * scale)) for side in (high, wide))
    rows = slice((new_high - size) // 2, (new_high - size) // 2 + size)
    columns = slice((new_wide - size) // 2, (new_wide - size) // 2 + size)
    return area(pixels, new_high, new_wide)[rows, columns]


def area(
    pixels: UInt8[np.ndarray, "H W 3"], high: int, wide: int
) -> UInt8[np.ndarray, "new_high new_wide 3"]:
    """Each new pixel the mean of what it covers of the old ones, by any factor, fractions cut.

    Overlaps are whole numbers in units that divide both grids, and their sums below 2^53, so the
    mean is exact, and cutting it is, too.
    """
    old_high, old_wide = pixels.shape[:2]
    down, along = _overlaps(old_high, high), _overlaps(old_wide, wide)
    sums = np.empty((high, old_wide, 3))
    for row, weights in enumerate(down):
        # Few rows at a time: as float64 a photograph is large.
        part = slice(row * old_high // high, -(-(row + 1) * old_high // high))
        sums[row] = np.tensordot(weights[part], pixels[part].astype(np.float64), axes=1)
    means = np.einsum("hwc,vw->hvc", sums, along, optimize=True) // (old_high * old_wide)
    return means.astype(np.uint8)


def _overlaps(side: int, new: int) -> Float[np.ndarray, "new side"]:
    """How much each new pixel covers of each old one, in units of 1 / (side * new)."""
    starts: Int64[np.ndarray, "new 1"] = np.arange(new, dtype=np.int64)[:, None] * side
    old: Int64[np.ndarray, "side"] = np.arange(side, dtype=np.int64) * new
    shared = np.minimum(starts + side, old + new) - np.maximum(starts, old)
    return np.maximum(shared, 0).astype(np.float64)


def _short_side(pixels: np.ndarray, size: int) -> np.ndarray:
    """As torchvision's `Resize(S, BICUBIC)` and `CenterCrop(S)`.

    The longer side is cut to a whole number; the corner is rounded, a half to even.
    """
    short, long = sorted(pixels.shape[:2])
    longer = int(size * long / short)
    high, wide = (size, longer) if pixels.shape[0] == short else (longer, size)
    resized = Image.fromarray(pixels).resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))
