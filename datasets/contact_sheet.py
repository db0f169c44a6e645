"""Many small pictures on one, each with its caption, and a line that credits the artists."""

from __future__ import annotations

import math
import os
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

_TILE, _GAP, _LINE = 96, 12, 13
_INK, _FAINT, _PAPER = (32, 33, 36), (95, 99, 104), (250, 250, 248)


def write_contact_sheet(
    path: Path,
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    attribution: str,
    columns: int = 8,
) -> Path:
    """Writes a PNG of the images in rows, enlarged without smoothing.

    Args:
        path: the file, written whole or not at all; its folder is made where missing.
        images: (S,S,3) uint8 each.
        captions: one an image; what does not fit under it in three lines is cut.
        attribution: the credit, at the foot and in the PNG's `Copyright` text.
        columns: pictures a row.

    Returns:
        `path`.

    Raises:
        ValueError: no images, or not as many captions.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: one each is needed.")
    columns = min(columns, len(images))
    font = ImageFont.load_default(11)
    cell_width, cell_height = _TILE + _GAP, _TILE + 3 * _LINE + _GAP
    width = max(columns * cell_width + _GAP, 480)
    credit = textwrap.wrap(_drawable(attribution), max(20, (width - 2 * _GAP) // 6))
    rows = math.ceil(len(images) / columns)
    height = rows * cell_height + _GAP * 2 + _LINE * len(credit)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (pixels, caption) in enumerate(zip(images, captions, strict=True)):
        x = _GAP + (i % columns) * cell_width
        y = _GAP + (i // columns) * cell_height
        tile = Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.NEAREST)
        sheet.paste(tile, (x, y))
        draw.rectangle((x - 1, y - 1, x + _TILE, y + _TILE), outline=(222, 222, 218))
        for n, line in enumerate(_lines(_drawable(caption), font)):
            draw.text((x, y + _TILE + 3 + n * _LINE), line, fill=_INK, font=font)
    for n, line in enumerate(credit):
        y = rows * cell_height + _GAP + n * _LINE
        draw.text((_GAP, y), line, fill=_FAINT, font=font)
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("Copyright", attribution)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        sheet.save(part, "PNG", pnginfo=notes)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _drawable(text: str) -> str:
    """Without what Pillow's own font has no glyphs for: accents go, other letters become `?`."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'"))
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode("ascii")


def _lines(caption: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in caption.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _TILE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if len(lines) <= 3 else [*lines[:2], lines[2] + " …"]
