"""Builds the prepared records of `emoji_art`, and compares two builds."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .licences import licences_text
from .sources import default_cache

CHECKSUMS = "checksums.json"
# Blocks of 64 records: a third smaller than single ones, and read in sequence anyway.
_WRITER_OPTIONS = "group_size:64,zstd:19"


def shipped_dir() -> Path:
    """The `data_dir` in the package, which holds `emoji_art/VERSION/`."""
    return Path(__file__).parent / "data"


def build(out_dir: Path, cache: Path | None = None, limit: int | None = None) -> Path:
    """Renders all drawings and writes the prepared data set.

    Args:
        out_dir: the `data_dir` to make `emoji_art/VERSION/` in.
        cache: folder of npm tarballs, filled as needed; None is `npm` in the user's cache.
        limit: only the first `limit` concepts; None is all of them.

    Returns:
        The folder of the prepared data set. It appears whole or not at all.

    Raises:
        SourceError: a package cannot be had, or resvg-py is missing.
        FileExistsError: `out_dir` holds this data set already.
    """
    import tensorflow_datasets as tfds

    from .builder import EmojiArt

    target = out_dir / EmojiArt.name / str(EmojiArt.VERSION)
    if target.exists():
        raise FileExistsError(f"{target} exists already. Remove it or name another folder.")
    cache = cache or default_cache() / "npm"
    target.parent.mkdir(parents=True, exist_ok=True)
    tfds.disable_progress_bar()
    with tempfile.TemporaryDirectory(dir=out_dir, prefix=".building-") as folder:
        # TFDS prints where it prepares, which here is a passing place.
        with contextlib.redirect_stdout(io.StringIO()):
            builder = EmojiArt(cache=cache, limit=limit, data_dir=folder)
            builder.download_and_prepare()
        made = Path(builder.data_dir)
        for path in made.glob("*.array_record-*"):
            repack(path)
        (made / "LICENSE").unlink(missing_ok=True)
        (made / "LICENSES.md").write_text(licences_text(), "utf-8")
        write_checksums(made)
        os.replace(made, target)
    return target


def repack(path: Path) -> None:
    from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
    from tensorflow_datasets.proto import tf_example_pb2

    reader = array_record_module.ArrayRecordReader(str(path))
    rows = reader.read_all() if reader.num_records() else []
    reader.close()
    packed = path.with_name(path.name + ".packed")
    writer = array_record_module.ArrayRecordWriter(str(packed), _WRITER_OPTIONS)
    for row in rows:
        # A map's order is left to the process unless asked for: the same build, the same bytes.
        example = tf_example_pb2.Example.FromString(row)  # pyright: ignore[reportAttributeAccessIssue]
        writer.write(example.SerializeToString(deterministic=True))
    writer.close()
    os.replace(packed, path)


def write_checksums(folder: Path) -> None:
    """Writes `checksums.json`: bytes and SHA-256 of every other file of the folder."""
    sums = {
        path.name: {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
        if path.name != CHECKSUMS
    }
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=1) + "\n", "utf-8")


def compare(left: Path, right: Path) -> list[str]:
    """How two prepared data sets differ in ids, captions and decoded pixels.

    Args:
        left, right: folders with `features.json`, such as `build` returns.

    Returns:
        One line per difference; empty when they are equal.
    """
    differences = []
    ours, theirs = dict(_records(left)), dict(_records(right))
    for key in sorted(ours.keys() ^ theirs.keys()):
        differences.append(f"{key}: only in {left if key in ours else right}")
    if not differences and list(ours) != list(theirs):
        differences.append("the records stand in another order")
    for key in ours.keys() & theirs.keys():
        for field, value in ours[key].items():
            other = theirs[key][field]
            # Other PNGs of the same pixels are the same drawing.
            if value != other and (field != "image" or _pixels(value) != _pixels(other)):
                differences.append(f"{key}: {field} differs")
    return differences


def _records(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Records of all splits by `split:id`, images still encoded."""
    from ..records import open_folder

    for split in open_folder(folder).splits:
        for row in open_folder(folder).rows(split, decode=False):
            yield f"{split}:{row['id']}", row


def _pixels(data: bytes) -> bytes:
    from .render import decode

    return decode(data).tobytes()
