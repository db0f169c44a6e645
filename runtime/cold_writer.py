"""Writes a file of cold items, one item in memory at a time."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .cold import Key, Tree
from .cold_errors import ColdFileError
from .cold_file import default_layout
from .cold_header import LONGEST_HEADER, TYPE_NAMES

# So that the first tensor lies where a cache line begins.
_ALIGNMENT = 64


def write_cold(path: Path | str, shapes: Mapping[Any, Tree], make: Callable[[Any], Tree]) -> None:
    """Writes a safetensors file that `MappedFile` reads, whole or not at all.

    Item (0, 17), a tuple of two arrays, becomes the tensors `0/17/0` and `0/17/1`.

    Args:
        path: replaced if it exists; who has it mapped keeps the old one.
        shapes: by key, a tuple of numbers and words, the item: a tuple or a dictionary of anything
            that has a shape and a dtype.
        make: gives the arrays of an item; is called once for each, in order. For
            items that are there: `write_cold(path, items, items.__getitem__)`.

    Raises:
        ColdFileError: a key or an item that the names cannot tell, a dtype that the format does
            not have, arrays of other shapes than was said.
        OSError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    plan = {key: list(_named(path, key, tree)) for key, tree in shapes.items()}
    header = _header(path, plan)
    handle, work = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(header)
            for key, parts in plan.items():
                _write_item(file, path, key, parts, make(key))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(work, 0o644)  # made private, meant to be read by others
        os.replace(work, path)
        _sync(path.parent)
    except BaseException:
        Path(work).unlink(missing_ok=True)
        raise


def _named(path: Path, key: Key, tree: Tree) -> Iterator[tuple[str, Any, jax.ShapeDtypeStruct]]:
    """Name, place in the item, and shape of each array."""
    if not isinstance(key, tuple) or not key:
        raise ColdFileError(f"{path}: key {key!r}: expected a tuple of numbers and words")
    places = list(tree.items()) if isinstance(tree, dict) else []
    if isinstance(tree, tuple):
        places = list(enumerate(tree))
    if not places:
        raise ColdFileError(
            f"{path}: item {key!r} is a {type(tree).__name__}: expected a tuple or a dictionary of "
            "arrays"
        )
    for place, leaf in places:
        name = "/".join(map(str, (*key, place)))
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            raise ColdFileError(f"{path}: {name!r} is a {type(leaf).__name__}, expected an array")
        told = default_layout(path, [f"{'/'.join(map(str, key))}/w"])
        if key not in told or (isinstance(tree, dict) and not _is_word(place)):
            raise ColdFileError(
                f"{path}: {name!r} would be read back as another item: keys are numbers from 0 on "
                "and words without '/', names in an item are words"
            )
        dtype = np.dtype(leaf.dtype)
        if dtype not in TYPE_NAMES:
            raise ColdFileError(f"{path}: {name!r} has type {dtype}, which safetensors has not")
        yield name, place, jax.ShapeDtypeStruct(tuple(leaf.shape), dtype)


def _is_word(place: Any) -> bool:
    return isinstance(place, str) and "/" not in place and not place.isdigit()


def _header(path: Path, plan: Mapping[Key, list[tuple[str, Any, jax.ShapeDtypeStruct]]]) -> bytes:
    entries, end = {}, 0
    for parts in plan.values():
        for name, _, shape in parts:
            size = math.prod(shape.shape) * shape.dtype.itemsize
            entries[name] = {
                "dtype": TYPE_NAMES[np.dtype(shape.dtype)],
                "shape": list(shape.shape),
                "data_offsets": [end, end + size],
            }
            end += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    if len(text) > LONGEST_HEADER:
        raise ColdFileError(
            f"{path}: {len(entries)} tensors make a header of {len(text)} bytes, above "
            f"{LONGEST_HEADER}: write several files"
        )
    return len(text).to_bytes(8, "little") + text


def _write_item(
    file: Any, path: Path, key: Key, parts: list[tuple[str, Any, jax.ShapeDtypeStruct]], tree: Tree
) -> None:
    if len(tree) != len(parts):
        raise ColdFileError(f"{path}: item {key!r} has {len(tree)} arrays, not {len(parts)}")
    for name, place, shape in parts:
        array = np.asarray(tree[place], order="C")
        if array.shape != shape.shape or array.dtype != shape.dtype:
            raise ColdFileError(
                f"{path}: {name!r} was to be {shape.dtype}{list(shape.shape)} and is "
                f"{array.dtype}{list(array.shape)}"
            )
        file.write(array.reshape(-1).view(np.uint8).data)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
