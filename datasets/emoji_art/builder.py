"""The `emoji_art` TFDS builder: the same concepts drawn by nine artists.

It runs without TensorFlow, since it writes ArrayRecord and hands TFDS encoded PNGs.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from .catalogue import Concept, load_catalogue
from .licences import attribution
from .render import load_icons, render_artist
from .sources import artists, packages

SIZE = 32
SPLITS = ("train", "held_out", "validation", "test")
# Sets with code points, in the order in which they are asked for further names of a concept.
_NAMERS = ("fluent-emoji-flat", "twemoji", "noto", "openmoji")


class EmojiArt(tfds.core.GeneratorBasedBuilder):
    """Emoji drawn by nine artists, split by artist and by concept.

    Splits: `train`, the training artists' drawings but for held-out concepts (and for
    drawings that equal one of those); `held_out`, their drawings of held-out concepts;
    `validation` and `test`, all drawings of the artists of that role (`held_out` says of each
    whether its concept was kept from training).

    Args:
        cache: folder of npm tarballs; those missing are fetched with `npm pack`.
        limit: only the first `limit` concepts, for a quick look; None is all of them.
    """

    name = "emoji_art"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "32 px with alpha; emojibase 17."}  # noqa: RUF012

    def __init__(self, *, cache: Path | None = None, limit: int | None = None, **kwargs: Any):
        self._cache, self._limit = cache, limit
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The same concepts drawn by different artists, with their words.",
            homepage="https://emojibase.dev",
            citation=attribution(),
            license="Per artist: see LICENSES.md beside the records.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 4), encoding_format="png"),
                    "concept": np.int32,
                    "code": tfds.features.Text(),
                    "label": tfds.features.Text(),
                    "keywords": tfds.features.Sequence(tfds.features.Text()),
                    "group": tfds.features.Text(),
                    "subgroup": tfds.features.Text(),
                    "artist": tfds.features.Text(),
                    "is_object": np.bool_,
                    "held_out": np.bool_,
                }
            ),
            supervised_keys=None,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager  # npm is the only way to these sources, and it checks them itself
        return {split: self._generate_examples(split) for split in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        assert self._cache is not None, (
            "EmojiArt needs `cache` to prepare, only to read it does not"
        )
        concepts = load_catalogue(self._cache)[: self._limit]
        if split in ("validation", "test"):
            yield from enumerate(drawings(artists(split), concepts, self._cache))
            return
        hidden = tuple(c for c in concepts if c.held_out)
        kept_out = list(drawings(artists("train"), hidden, self._cache))
        if split == "held_out":
            yield from enumerate(kept_out)
            return
        # An artist may have drawn a held-out concept and another one alike, to the pixel.
        alike = {row["image"].getvalue() for row in kept_out}
        seen = tuple(c for c in concepts if not c.held_out)
        rows = drawings(artists("train"), seen, self._cache)
        yield from enumerate(row for row in rows if row["image"].getvalue() not in alike)


def drawings(
    names: tuple[str, ...], concepts: tuple[Concept, ...], cache: Path
) -> Iterator[dict[str, Any]]:
    """Records of the named artists' drawings, concept by concept, and in each by artist."""
    known = {p.artist: p for p in packages()[1]}
    namers = tuple(load_icons(known[a], cache) for a in _NAMERS)
    drawn: dict[int, list[tuple[str, np.ndarray]]] = {}
    for artist in names:
        for concept, rgba in render_artist(known[artist], concepts, cache, SIZE, namers):
            drawn.setdefault(concept.index, []).append((artist, rgba))
    for concept in concepts:
        for artist, rgba in drawn.get(concept.index, ()):
            yield record(artist, concept, rgba)


def record(artist: str, concept: Concept, rgba: np.ndarray) -> dict[str, Any]:
    """One record from (S,S,4) uint8 RGBA pixels; its image is PNG bytes in a file object.

    The PNG is stored, not deflated: the record file compresses blocks of records, which
    is smaller than many small PNGs, and the bytes then depend on no version of zlib.
    """
    png = io.BytesIO()
    Image.fromarray(rgba).save(png, "PNG", compress_level=0)
    png.seek(0)
    return {
        "id": f"{artist}/{concept.code}",
        "image": png,
        "concept": concept.index,
        "code": concept.code,
        "label": concept.label,
        "keywords": list(concept.keywords),
        "group": concept.group,
        "subgroup": concept.subgroup,
        "artist": artist,
        "is_object": concept.is_object,
        "held_out": concept.held_out,
    }
