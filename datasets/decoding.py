"""A picture of any kind as 8-bit RGBA: the same for training, evaluation and embedding."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def as_rgba(image: bytes | str | Path | Image.Image) -> Image.Image:
    """A picture in mode RGBA; what says nothing of transparency is opaque.

    Args:
        image: encoded, the path of a file, or Pillow's own. Grey of 16 bits (and of 32, as far as
            it goes to 65535) is scaled to 8.

    Raises:
        OSError, ValueError, SyntaxError: it is missing, does not decode, or has more pixels than
            Pillow takes.
    """
    try:
        if isinstance(image, Image.Image):
            return _converted(image)
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            return _converted(opened)
    except Image.DecompressionBombError as error:
        # No OSError of its own, and yet a picture that cannot be read.
        raise OSError(str(error)) from error


def _converted(image: Image.Image) -> Image.Image:
    if not image.mode.startswith("I"):
        return image.convert("RGBA")
    # Grey of 16 bits, which Pillow's own conversion clips at 255 instead of scaling.
    grey = np.clip(np.asarray(image), 0, 65535).astype(np.uint32)
    clear = grey == image.info.get("transparency", -1)
    small = ((grey + 128) // 257).astype(np.uint8)
    alpha = np.where(clear, 0, 255).astype(np.uint8)
    return Image.fromarray(np.stack([small, small, small, alpha], axis=-1))
