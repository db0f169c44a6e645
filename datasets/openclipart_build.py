"""Builds openclipart's prepared records out of the SVGs of Debian's package."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from .emoji_art.build import repack, write_checksums
from .emoji_art.render import decode
from .emoji_art.sources import SourceError
from .openclipart import FOLDER, LICENCE, NAME, Clipart, catalogue

SIZE = 128
_LARGEST_SCALE = 8


class Openclipart(tfds.core.GeneratorBasedBuilder):
    """Drawings of the public domain with titles and keywords; one split, `test`.

    Args:
        source: folder of the SVGs.
        limit: only the first `limit` drawings, for a quick look; None is all of them.
    """

    name = NAME
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "openclipart 0.18, 128 px with alpha."}  # noqa: RUF012

    def __init__(self, *, source: Path | None = None, limit: int | None = None, **kwargs: Any):
        self._source, self._limit = source, limit
        self.unusable = 0
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Drawings by many people, with their titles and keywords.",
            homepage="https://openclipart.org",
            license=LICENCE,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 4), encoding_format="png"),
                    "label": tfds.features.Text(),
                    "keywords": tfds.features.Sequence(tfds.features.Text()),
                    "creator": tfds.features.Text(),
                }
            ),
            supervised_keys=None,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # Debian's package is the only source
        return {"test": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        assert self._source is not None, (
            "Openclipart needs `source` to prepare, to read it does not"
        )
        seen: set[bytes] = set()
        for one in catalogue(self._source)[: self._limit]:
            pixels = _drawing(one.path)
            if pixels is None or pixels.tobytes() in seen:
                self.unusable += 1
                continue
            seen.add(pixels.tobytes())
            yield len(seen), _record(one, pixels)


def _record(one: Clipart, pixels: np.ndarray) -> dict[str, Any]:
    png = io.BytesIO()
    # Stored: the record file compresses, and the bytes depend on no version of zlib.
    Image.fromarray(pixels).save(png, "PNG", compress_level=0)
    png.seek(0)
    return {
        "id": one.name,
        "image": png,
        "label": one.title,
        "keywords": list(one.keywords),
        "creator": one.creator,
    }


def _drawing(path: Path) -> np.ndarray | None:
    """(SIZE,SIZE,4) uint8 with straight alpha: what is drawn on the page, in the middle; None
    where it does not render, or renders to nothing.

    Raises:
        SourceError: resvg-py is not installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise SourceError(
            "Rendering needs resvg-py, which is not installed: `pip install 'resvg-py>=0.5,<0.6'`."
        ) from error
    try:
        page = _rendered(resvg_py, path, 2 * SIZE)
        box = Image.fromarray(page).getbbox()
        if box is None or min(box[2] - box[0], box[3] - box[1]) < 2:
            return None
        # A small drawing on a large page is rendered again, larger.
        side = max(box[2] - box[0], box[3] - box[1])
        if side < SIZE:
            scale = min(_LARGEST_SCALE, SIZE // side + 1)
            page = _rendered(resvg_py, path, scale * 2 * SIZE)
            box = Image.fromarray(page).getbbox()
    except Exception:  # of a file that is no SVG to it, by what is wrong
        return None
    return _fitted(Image.fromarray(page).crop(box))


def _rendered(resvg_py: Any, path: Path, side: int) -> np.ndarray:
    """The whole page, its longer edge of so many pixels."""
    # No system fonts: the result may not depend on the machine. Without dpi, mm are none.
    options = {"svg_path": str(path), "skip_system_fonts": True, "dpi": 96.0}
    first = decode(bytes(resvg_py.svg_to_bytes(**options, width=side)))
    if first.shape[0] <= side:
        return first
    return decode(bytes(resvg_py.svg_to_bytes(**options, height=side)))


def _fitted(drawing: Image.Image) -> np.ndarray:
    wide, high = drawing.size
    scale = SIZE / max(high, wide)
    size = (max(1, round(wide * scale)), max(1, round(high * scale)))
    small = drawing.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    square.paste(small, ((SIZE - size[0]) // 2, (SIZE - size[1]) // 2))
    pixels = np.array(square)
    pixels[pixels[..., 3] == 0] = 0  # what cannot be seen is not kept
    return pixels


def build(out_dir: Path, source: Path | None = None, limit: int | None = None) -> Path:
    """Renders the drawings and writes the prepared data set.

    Args:
        out_dir: the `data_dir` to make `openclipart/VERSION/` in.
        source: folder of the SVGs; None is where Debian's package puts them.
        limit: only the first `limit` drawings; None is all of them.

    Returns:
        The folder of the prepared data set. It appears whole or not at all.

    Raises:
        SourceError: the drawings are not there (how to get them), or resvg-py is missing.
        FileExistsError: `out_dir` holds this data set already.
    """
    target = out_dir / NAME / str(Openclipart.VERSION)
    if target.exists():
        raise FileExistsError(f"{target} exists already. Remove it or name another folder.")
    source = FOLDER if source is None else source
    catalogue(source)  # what is missing shows before anything is made
    target.parent.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".building-") as folder:
        # TFDS prints where it prepares, which here is a passing place.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = Openclipart(source=source, limit=limit, data_dir=folder)
            builder.download_and_prepare()
        made = Path(builder.data_dir)
        for path in made.glob("*.array_record-*"):
            repack(path)
        (made / "LICENSE").write_text(LICENCE + "\n", "utf-8")
        write_checksums(made)
        os.replace(made, target)
    return target
