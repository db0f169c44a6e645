"""A prepared data set in memory: decoded once, then kept on disk for the next start."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from .decoding import as_rgba
from .emoji_art.render import on_white
from .emoji_art.sources import default_cache
from .records import Prepared, RecordError, image_keys

_TEXT_KEYS = ("caption", "captions", "label", "text", "title")
_CACHE_FORMAT = 2
# Decoded pixels are held in memory; beyond this a run would die late rather than early.
_LARGEST_BYTES = 32 << 30


@dataclasses.dataclass(frozen=True)
class Concept:
    """What the texts of a row are about; rows of one concept share it.

    Attributes:
        label: the shortest name, and the text of an evaluation.
        keywords: further words (emoji_art), or further captions (other data sets).
        code, group, subgroup: as in `emoji_art`, else empty.
        is_object, held_out: as in `emoji_art`, else True and False.
    """

    label: str
    keywords: tuple[str, ...] = ()
    code: str = ""
    group: str = ""
    subgroup: str = ""
    is_object: bool = True
    held_out: bool = False


@dataclasses.dataclass(frozen=True)
class Examples:
    """All rows of a data set, N of them, over all splits in the order of the files.

    Attributes:
        rgba: (N,S,S,4) uint8 pixels with straight alpha (255 where the source has none).
        concept: (N,) int32 index into `concepts`.
        split, artist, name: (N,) str; `name` is the record's own id. Rows are identified in
            batches by their number, 0 to N-1, which does not depend on the split asked for.
        concepts: the concept table, in the order of the data set.
        skipped: rows left out by policy, with an image that does not decode or no caption.
    """

    rgba: np.ndarray
    concept: np.ndarray
    split: np.ndarray
    artist: np.ndarray
    name: np.ndarray
    concepts: tuple[Concept, ...]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.rgba)

    def rows(self, split: str | None = None, artist: str | None = None) -> np.ndarray:
        """(n,) int64 numbers of the rows of a split, of an artist, or both.

        Raises:
            ValueError: there are none (the names there are, are given).
        """
        chosen = np.ones(len(self), bool)
        for key, wanted, have in (("split", split, self.split), ("artist", artist, self.artist)):
            if wanted is not None:
                if wanted not in have:
                    names = ", ".join(sorted(set(have.tolist())))
                    raise ValueError(f"No {key} {wanted!r}; there are: {names}.")
                chosen &= have == wanted
        return np.flatnonzero(chosen)

    def images(self, rows: np.ndarray) -> np.ndarray:
        """(n,S,S,3) uint8 images of rows, on white."""
        return on_white(self.rgba[rows])


def load_examples(
    prepared: Prepared,
    image_size: int = 32,
    on_bad_image: Literal["skip", "error"] = "error",
    cache: Path | None = None,
) -> Examples:
    """Decodes a data set, or takes the decoded copy of an earlier start.

    Args:
        prepared: an opened data set.
        image_size: S; images of another size are fitted (cropped to a square, Lanczos).
        on_bad_image: a row whose image does not decode, or which has no caption, is skipped
            and counted (`skip`) or raises (`error`).
        cache: folder of decoded copies; None is `decoded` in the user's cache.

    Raises:
        RecordError: a bad row under `error`, no image or text feature, or too large a set.
    """
    total = sum(prepared.splits.values())
    if total * image_size**2 * 4 > _LARGEST_BYTES:
        raise RecordError(
            f"{prepared.name} has {total} rows, {total * image_size**2 * 4 >> 30} GiB at"
            f" {image_size} px, more than the {_LARGEST_BYTES >> 30} GiB that are kept in memory."
            " Prepare fewer rows, or take a smaller image_size."
        )
    folder = cache or default_cache() / "decoded"
    tag = f"{prepared.fingerprint[:24]}-{image_size}-{_CACHE_FORMAT}"
    path = folder / f"{prepared.name}-{tag}.npz"
    examples = _read_cache(path)
    if examples is None:
        examples = _decode(prepared, image_size, on_bad_image)
        _write_cache(path, examples)
    elif examples.skipped and on_bad_image == "error":
        # The copy was made under `skip`: decode again, to say which row is bad.
        examples = _decode(prepared, image_size, on_bad_image)
    return examples


def _decode(prepared: Prepared, size: int, policy: str) -> Examples:
    features = prepared.features()
    images = image_keys(features)
    if not images:
        raise RecordError(f"{prepared.name} has no image feature; it has {', '.join(features)}.")
    text = _text_key(features, prepared.name)
    classes = getattr(features[text], "names", None)
    pixels, concept, split, artist, names = [], [], [], [], []
    concepts: dict[Any, Concept] = {}
    numbers: dict[Any, int] = {}
    skipped = 0
    for part in prepared.splits:
        for number, row in enumerate(prepared.rows(part, decode=False)):
            name = str(row.get("id") or f"{part}/{number}")
            texts = _texts(row[text], classes)
            try:
                if not texts:
                    raise ValueError(f"its {text} is empty")
                rgba = _fit(row[images[0]], size)
            except (OSError, ValueError, SyntaxError) as error:
                if policy == "error":
                    raise RecordError(
                        f"Row {number} of {part} ({name}) in {prepared.folder} cannot be used:"
                        f" {error}. Mend it, or set on_bad_image to `skip`."
                    ) from error
                skipped += 1
                continue
            found = _concept(row, texts)
            key = row["concept"] if "code" in row and "concept" in row else found.label
            numbers.setdefault(key, len(numbers))
            concepts.setdefault(key, found)
            pixels.append(rgba)
            concept.append(key)
            split.append(part)
            artist.append(str(row.get("artist", "")))
            names.append(name)
    if not pixels:
        raise RecordError(f"{prepared.folder} has no row that can be used ({skipped} skipped).")
    # emoji_art numbers its concepts itself; others are numbered as they come.
    order = sorted(concepts, key=lambda k: k if isinstance(k, int) else numbers[k])
    index = {key: i for i, key in enumerate(order)}
    return Examples(
        rgba=np.stack(pixels),
        concept=np.array([index[key] for key in concept], np.int32),
        split=np.array(split),
        artist=np.array(artist),
        name=np.array(names),
        concepts=tuple(concepts[key] for key in order),
        skipped=skipped,
    )


def _text_key(features: Any, name: str) -> str:
    for key in _TEXT_KEYS:
        if key in features:
            return key
    raise RecordError(
        f"{name} has no text feature: one of {', '.join(_TEXT_KEYS)} is needed, and it has"
        f" {', '.join(features)}."
    )


def _texts(value: Any, classes: Iterable[str] | None) -> list[str]:
    if classes is not None:
        return [list(classes)[int(value)].replace("_", " ")]
    values = [value] if isinstance(value, str) else list(value)
    return [text for text in (str(v).strip() for v in values) if text]


def _concept(row: dict[str, Any], texts: list[str]) -> Concept:
    return Concept(
        label=texts[0],
        keywords=tuple(row.get("keywords", ())) + tuple(texts[1:]),
        code=row.get("code", ""),
        group=row.get("group", ""),
        subgroup=row.get("subgroup", ""),
        is_object=bool(row.get("is_object", True)),
        held_out=bool(row.get("held_out", False)),
    )


def _fit(data: bytes, size: int) -> np.ndarray:
    rgba = as_rgba(data)
    if rgba.size != (size, size):
        rgba = ImageOps.fit(rgba, (size, size), Image.Resampling.LANCZOS)
    return np.array(rgba)


def _read_cache(path: Path) -> Examples | None:
    try:
        with path.open("rb") as file, np.load(file) as data:
            meta = json.loads(data["meta"].tobytes())
            columns = {k: data[k] for k in ("rgba", "concept", "split", "artist", "name")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None  # absent or damaged: it is only a copy, and is made anew
    table = tuple(Concept(**{**c, "keywords": tuple(c["keywords"])}) for c in meta["concepts"])
    return Examples(**columns, concepts=table, skipped=meta["skipped"])


def _write_cache(path: Path, examples: Examples) -> None:
    table = [dataclasses.asdict(c) for c in examples.concepts]
    meta = json.dumps({"concepts": table, "skipped": examples.skipped}).encode()
    columns = {k: getattr(examples, k) for k in ("rgba", "concept", "split", "artist", "name")}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez(file, meta=np.frombuffer(meta, np.uint8), **columns)
        os.replace(file.name, path)
    except OSError:  # a read-only or full disk costs the next start's time, nothing else
        if "file" in locals():
            Path(file.name).unlink(missing_ok=True)
