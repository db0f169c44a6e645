"""Prepared data sets on disk: found by name, checked, and read row by row.

A prepared data set is a folder `DATA_DIR/NAME/VERSION/` (or `DATA_DIR/NAME/CONFIG/VERSION/`)
as TFDS writes it, in ArrayRecord. `checksums.json`, where it lies beside the records, is
compared with every file before anything is read from them.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .emoji_art.build import CHECKSUMS, shipped_dir
from .openclipart import NAME as OPENCLIPART
from .openclipart import data_folder

# What reading JSON of another shape than expected raises.
_WRONG_SHAPE = (AttributeError, KeyError, TypeError, ValueError)


class RecordError(RuntimeError):
    """A prepared data set is missing, corrupt, or holds a row that cannot be used."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A prepared data set, its files present and, where there are checksums, verified.

    Attributes:
        folder: where `dataset_info.json`, `features.json` and the records are.
        name: such as `emoji_art`.
        splits: rows of each split.
        files: record files of each split, in order.
        fingerprint: SHA-256 of what identifies the contents (checksums, or sizes and times).
    """

    folder: Path
    name: str
    splits: dict[str, int]
    files: dict[str, tuple[Path, ...]]
    fingerprint: str

    def features(self) -> Any:
        """The TFDS features of a row (imports TFDS, but not TensorFlow).

        Raises:
            RecordError: `features.json` is missing or corrupt.
        """
        import tensorflow_datasets as tfds

        try:
            return tfds.builder_from_directory(str(self.folder)).info.features
        except Exception as error:  # the library raises several kinds, by what broke
            path = self.folder / "features.json"
            reason = f"cannot be read ({error})" if path.is_file() else "is missing"
            raise RecordError(_mend(path, reason, self.name)) from error

    def raw(self, split: str) -> Iterator[bytes]:
        """Serialised rows of a split, in order.

        Raises:
            RecordError: no such split, or a file that cannot be read.
        """
        from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]

        if split not in self.splits:
            raise RecordError(
                f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}."
            )
        found = 0
        for path in self.files[split]:
            try:
                reader = array_record_module.ArrayRecordReader(str(path))
                rows = reader.read_all() if reader.num_records() else []
                reader.close()
            except Exception as error:  # the library raises several kinds, by what broke
                raise RecordError(_mend(path, f"cannot be read ({error})", self.name)) from error
            found += len(rows)
            yield from rows
        if found != self.splits[split]:
            reason = f"holds {found} rows, where dataset_info.json says {self.splits[split]}"
            raise RecordError(_mend(self.files[split][0], reason, self.name))

    def rows(self, split: str, decode: bool = True) -> Iterator[dict[str, Any]]:
        """Rows of a split as Python values: text as str, sequences as lists.

        Args:
            split: which.
            decode: images as arrays; False leaves them as encoded bytes.

        Raises:
            RecordError: as `raw` and `features`, or a row that does not parse, or whose text is
                not UTF-8.
        """
        import tensorflow_datasets as tfds

        features = self.features()
        skip = {} if decode else {k: tfds.decode.SkipDecoding() for k in image_keys(features)}
        for number, data in enumerate(self.raw(split)):
            try:
                row = features.deserialize_example_np(data, decoders=skip)
                plain = {key: _plain(value, key in skip) for key, value in row.items()}
            except Exception as error:
                where = f"row {number} of {split} in {self.folder}"
                raise RecordError(f"{where} does not parse ({error}).") from error
            yield plain


def _plain(value: Any, keep_bytes: bool) -> Any:
    if isinstance(value, bytes):
        return value if keep_bytes else value.decode("utf-8")
    if isinstance(value, list) or (hasattr(value, "dtype") and value.dtype == object):
        return [v.decode("utf-8") if isinstance(v, bytes) else v for v in value]
    return value.item() if getattr(value, "ndim", None) == 0 else value


def image_keys(features: Any) -> list[str]:
    """Names of the image features."""
    import tensorflow_datasets as tfds

    return [k for k, f in features.items() if isinstance(f, tfds.features.Image)]


def open_data(name: str, data_dir: str | Path | None = None) -> Prepared:
    """Finds a prepared data set by name and checks its files.

    Args:
        name: the data set, as `NAME` or `NAME/CONFIG`.
        data_dir: folder of prepared data sets; None is the one in the package, and of openclipart
            the one in the user's cache.

    Raises:
        RecordError: no such data set (the names there are, the nearest first), or a missing
            or corrupt file (which one, and how to mend it).
    """
    ours = data_folder() if name == OPENCLIPART else shipped_dir()
    root = Path(data_dir) if data_dir is not None else ours
    versions = [p.parent for p in (root / name).glob("*/dataset_info.json")]
    if not versions and name == OPENCLIPART:
        raise RecordError(
            f"openclipart is not in {root}: build it there with `byways data build openclipart"
            f"{f' --output {root}' if data_dir is not None else ''}`, out of Debian's and Ubuntu's"
            " package (`apt install openclipart-svg`)."
        )
    if not versions:
        there = sorted({str(p.parent.parent.relative_to(root)) for p in _infos(root)})
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise RecordError(
            f"No data set {name!r} in {root}. {hint}There: {', '.join(there) or 'none'}."
            " Prepare it with TFDS (file_format='array_record') or name its `data_dir`;"
            " `byways data build emoji_art` makes emoji_art."
        )
    return open_folder(max(versions, key=lambda p: [int(n) for n in re.findall(r"\d+", p.name)]))


def _infos(root: Path) -> list[Path]:
    return [*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")]


def open_folder(folder: Path) -> Prepared:
    """As `open_data`, of the folder that holds `dataset_info.json` itself."""
    name = folder.parent.name
    sums = _verify(folder, name)
    info = _json(folder / "dataset_info.json", name)
    if info.get("fileFormat") != "array_record":
        raise RecordError(
            f"{folder} is prepared as {info.get('fileFormat') or 'tfrecord'}, and only ArrayRecord"
            " is read. Prepare it again with file_format='array_record'."
        )
    try:
        own = str(info["name"])
        shards = {
            str(split["name"]): [int(rows) for rows in split.get("shardLengths", [])]
            for split in info["splits"]
        }
    except _WRONG_SHAPE as error:
        reason = f"is corrupt: not what TFDS writes ({error!r})"
        raise RecordError(_mend(folder / "dataset_info.json", reason, name)) from error
    files = {}
    for split, rows in shards.items():
        paths = [
            folder / f"{own}-{split}.array_record-{i:05d}-of-{len(rows):05d}"
            for i in range(len(rows))
        ]
        for path in paths:
            if not path.is_file():
                raise RecordError(_mend(path, "is missing", name))
        files[split] = tuple(paths)
    if not sums:
        stats = [
            (p.name, p.stat().st_size, p.stat().st_mtime_ns) for v in files.values() for p in v
        ]
        sums = repr((str(folder), stats)).encode()
    splits = {split: sum(rows) for split, rows in shards.items()}
    return Prepared(folder, own, splits, files, hashlib.sha256(sums).hexdigest())


def check_trainable(splits: Iterable[str]) -> None:
    """Raises:
    RecordError: none of a data set's splits is `train`.
    """
    there = sorted(set(splits))
    if "train" not in there:
        raise RecordError(
            f"The data set has no split `train` to learn from; it has {', '.join(there) or 'none'}."
            " Name another one, or prepare this one with such a split."
        )


def _verify(folder: Path, name: str) -> bytes:
    path = folder / CHECKSUMS
    if not path.is_file():
        return b""
    for file, expected in _json(path, name).items():
        target = folder / file
        if not target.is_file():
            raise RecordError(_mend(target, "is missing", name))
        data = target.read_bytes()
        try:
            size, sha256 = expected["bytes"], expected["sha256"]
        except _WRONG_SHAPE as error:
            reason = f"is corrupt: not a size and a SHA-256 of {file}"
            raise RecordError(_mend(path, reason, name)) from error
        if len(data) != size:
            reason = f"is corrupt: {len(data)} bytes, where {size} are expected"
            raise RecordError(_mend(target, reason, name))
        if hashlib.sha256(data).hexdigest() != sha256:
            reason = f"is corrupt: its SHA-256 is not the one in {CHECKSUMS}"
            raise RecordError(_mend(target, reason, name))
    return path.read_bytes()


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise RecordError(_mend(path, "is missing", name)) from error
    except ValueError as error:
        raise RecordError(_mend(path, f"is corrupt ({error})", name)) from error
    if not isinstance(found, dict):
        raise RecordError(_mend(path, f"is corrupt: {type(found).__name__}, no object", name))
    return found


def _mend(path: Path, reason: str, name: str) -> str:
    if name == "emoji_art":
        mend = (
            "Restore it (`git checkout -- datasets/emoji_art/data`, or reinstall byways), or build"
            " anew with `byways data build emoji_art --output DIR` and set `data_dir` to DIR."
        )
    elif name == OPENCLIPART:
        mend = "Remove its folder and build it again with `byways data build openclipart`."
    else:
        mend = f"Prepare {name} again with TFDS (file_format='array_record')."
    return f"{path} {reason}. {mend}"
