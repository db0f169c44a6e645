"""The index of a published V-MoE checkpoint: which arrays there are, and in which shards.

`prefix.index` is msgpack: {"shard_count", "index": nested dict of arrays, "version"}. An array is
extension type 8, [(shape, element type, ...), [slice, ...], [shard, ...]]: its pieces, and where
each lies. Numbers of arrays count them in the order of their sorted names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import WeightsError
from .packed import dtype, extension, nested, sequence, shape, unpack

VERSION = "20220622"
_MOST_PIECES = 4096
_DEEPEST, _LONGEST_NAME = 32, 100
# (start, stop) along each axis.
Box = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array.

    Attributes:
        name: path in the tree, joined by `/`.
        shape, dtype: of the whole.
        pieces: of each, its place in the whole and its shard; together they are the whole.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    pieces: tuple[tuple[Box, int], ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_index(path: Path) -> tuple[int, list[Entry]]:
    """The number of shards, and the arrays by number.

    Raises:
        WeightsError: the file is missing or not of this format, or an array's pieces do not
            make up its whole.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "it is no file")  # a device has no end
        data = path.read_bytes()
    except OSError as error:
        folder = path.with_suffix("")
        folder = folder if folder.is_dir() else path.parent
        others = sorted(str(one.with_suffix("")) for one in folder.glob("*.index"))
        hint = f"; a prefix is expected, such as {', '.join(others[:3])}" if others else ""
        raise WeightsError(f"{path}: cannot be read ({error.strerror}){hint}") from error
    whole = unpack(data, str(path))
    if not isinstance(whole, dict) or not {"shard_count", "index", "version"} <= set(whole):
        raise WeightsError(
            f"{path}: no index of a V-MoE checkpoint, which is a msgpack map of shard_count, "
            "index and version"
        )
    if whole["version"] != VERSION:
        raise WeightsError(
            f"{path}: format version {str(whole['version'])[:40]!r}; only {VERSION!r} is known"
        )
    shards = whole["shard_count"]
    if type(shards) is not int or not 1 <= shards <= 99_999:
        raise WeightsError(f"{path}: shard_count is {str(shards)[:40]}; expected 1 to 99999")
    return shards, [
        _entry(name, leaf, shards, path) for name, leaf in _leaves(whole["index"], path)
    ]


def _leaves(tree: Any, path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield prefix, tree
        return
    if depth == _DEEPEST:
        raise WeightsError(f"{path}: {prefix[:80]}… is over {_DEEPEST} levels deep")
    for key in sorted(tree):
        odd = not key.isprintable() or len(key) > _LONGEST_NAME
        if odd or not key or "/" in key or key in (".", ".."):
            raise WeightsError(f"{path}: {prefix or 'the tree'} has a part named {key[:80]!r}")
        yield from _leaves(tree[key], path, f"{prefix}/{key}" if prefix else key, depth + 1)


def _entry(name: str, leaf: Any, shards: int, path: Path) -> Entry:
    where = f"{path}: {name}"
    described, boxes, owners = sequence(extension(leaf, 8, where), 3, where)
    parts = sequence(nested(described, where), None, where)
    if len(parts) < 2:
        raise WeightsError(f"{where}: an array has a shape and an element type")
    sizes, kind = shape(parts[0], where), dtype(parts[1], where)
    if len(sequence(boxes, None, where)) > _MOST_PIECES:
        raise WeightsError(f"{where}: {len(boxes)} pieces; at most {_MOST_PIECES} are expected")
    found = [box(nested(one, where), sizes, where) for one in boxes]
    owners = sequence(owners, len(found), where)
    if any(type(owner) is not int or not 0 <= owner < shards for owner in owners):
        raise WeightsError(f"{where}: lies in shards {str(owners)[:80]}, of 0 to {shards - 1}")
    _check_whole(found, sizes, where)
    return Entry(name, sizes, kind, tuple(zip(found, owners, strict=True)))


def box(value: Any, sizes: tuple[int, ...], where: str) -> Box:
    """A piece's place: one (start, stop, step) for each axis, step 1 or None, inside the whole.

    Raises:
        WeightsError: it is none.
    """
    made = []
    for one, size in zip(sequence(value, len(sizes), where), sizes, strict=True):
        start, stop, step = sequence(nested(one, where), 3, where)
        start, stop = 0 if start is None else start, size if stop is None else stop
        whole = type(start) is int and type(stop) is int and step in (None, 1)
        if not (whole and 0 <= start <= stop <= size):
            raise WeightsError(f"{where}: slice {start}:{stop}:{step} of an axis of {size}")
        made.append((start, stop))
    return tuple(made)


def _check_whole(found: list[Box], sizes: tuple[int, ...], where: str) -> None:
    volume = sum(math.prod(stop - start for start, stop in one) for one in found)
    # As many elements as the whole, and none twice: then none is missing.
    if volume != math.prod(sizes) or len(set(found)) != len(found) or _overlap(found):
        raise WeightsError(f"{where}: its {len(found)} pieces do not make up shape {sizes}")


def _overlap(found: list[Box]) -> bool:
    some = np.array([one for one in found if all(start < stop for start, stop in one)], np.int64)
    if len(some) < 2:
        return False
    starts, stops = some[..., 0], some[..., 1]  # (pieces, axes)
    return any(
        bool(np.any(np.all((starts[:i] < stops[i]) & (starts[i] < stops[:i]), axis=1)))
        for i in range(1, len(some))
    )
