"""Items in a memory-mapped safetensors file: pages that the system may drop, and no arrays."""

from __future__ import annotations

import dataclasses
import math
import mmap
import os
import weakref
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .cold import Key, Tree, item
from .cold_errors import ColdFileError
from .cold_header import Tensor, read_header

# A name that stands for a number, so that `0/17/up` is item (0, 17).
_LONGEST_NUMBER = 18


@dataclasses.dataclass(frozen=True)
class Part:
    """An array of an item.

    Attributes:
        name: of the tensor in the file.
        index: its row; None is the whole tensor.
    """

    name: str
    index: int | None = None


class MappedFile:
    """Items of a safetensors file, such as `write_cold` makes; nothing in it is ever executed.

    Args:
        path: the file, which must stay as it is.
        layout: by key a pytree of `Part`s, for a file of any origin: expert 3 of an exported
            model's stacked kernel is `Part(name, 3)`. None: of a name `0/17/1` the last part is the
            array's place in its item (numbers make a tuple, words a dictionary), the
            others are the key (0, 17).

    Raises:
        ColdFileError: the file is missing or damaged, or has no such tensors.
    """

    def __init__(self, path: Path | str, layout: Mapping[Key, Tree] | None = None):
        self.path = Path(path)
        tensors = read_header(self.path)
        self._layout = default_layout(self.path, tensors) if layout is None else dict(layout)
        parts = jax.tree.leaves(list(self._layout.values()))
        self._tensors = {part: self._place(tensors, part) for part in parts}
        try:
            self._file: int | None = os.open(self.path, os.O_RDONLY)
            self._closing = weakref.finalize(self, os.close, self._file)
            with os.fdopen(self._file, "rb", closefd=False) as file:
                mapped = np.memmap(file, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise ColdFileError(f"{self.path}: cannot be mapped ({error})") from error
        self._mapping = mapped.base
        self._bytes: Any = mapped.view(np.ndarray)
        self._size = self._bytes.size
        if tensors and self._size != max(t.stop for t in tensors.values()):
            raise ColdFileError(f"{self.path}: its length changed while it was opened")

    def keys(self) -> Collection[Key]:
        return self._layout.keys()

    def shapes(self, key: Key) -> Tree:
        def shape(part: Part) -> jax.ShapeDtypeStruct:
            tensor = self._tensors[part]
            return jax.ShapeDtypeStruct(tensor.shape, tensor.dtype)

        return jax.tree.map(shape, item(self._layout, key))

    def read(self, key: Key) -> Tree:
        """Views of the mapping, which cannot be written to; bytes are read when they are."""
        parts = item(self._layout, key)
        # A page past the end of a file that shrank would end the process, not raise.
        if self._file is None or os.fstat(self._file).st_size != self._size:
            raise ColdFileError(
                f"{self.path}: "
                + ("it was closed" if self._file is None else "its length changed after opening")
            )
        return jax.tree.map(self._view, parts)

    def expect(self, keys: Iterable[Key]) -> None:
        """Has the system read ahead."""
        if not isinstance(self._mapping, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for key in keys:
            for part in jax.tree.leaves(item(self._layout, key)):
                tensor = self._tensors[part]
                first = tensor.start // mmap.PAGESIZE * mmap.PAGESIZE
                if tensor.stop > tensor.start:
                    self._mapping.madvise(mmap.MADV_WILLNEED, first, tensor.stop - first)

    def close(self) -> None:
        """The mapping itself goes with the last view of it."""
        self._closing()
        self._file = self._bytes = self._mapping = None

    def _view(self, part: Part) -> np.ndarray:
        tensor = self._tensors[part]
        flat = self._bytes[tensor.start : tensor.stop]
        return flat.view(tensor.dtype).reshape(tensor.shape)

    def _place(self, tensors: Mapping[str, Tensor], part: Any) -> Tensor:
        if not isinstance(part, Part):
            raise ColdFileError(f"{self.path}: the layout holds {part!r}, expected a Part")
        if part.name not in tensors:
            few = ", ".join(list(tensors)[:4])
            raise ColdFileError(f"{self.path}: no tensor {part.name!r}; it has {few}, …")
        tensor = tensors[part.name]
        if part.index is None:
            return tensor
        if not tensor.shape or not 0 <= part.index < tensor.shape[0]:
            raise ColdFileError(
                f"{self.path}: {part.name!r} has shape {tensor.shape} and no row {part.index}"
            )
        size = math.prod(tensor.shape[1:]) * tensor.dtype.itemsize
        start = tensor.start + part.index * size
        return Tensor(tensor.dtype, tensor.shape[1:], start, start + size)


def default_layout(path: Path, names: Iterable[str]) -> dict[Key, Tree]:
    """Keys and items of names such as `0/17/up`; see `MappedFile`.

    Raises:
        ColdFileError: a name has one part only, or an item's places are not 0, 1, 2, ….
    """
    found: dict[Key, dict[Any, Part]] = {}
    for name in names:
        *key, last = map(_decoded, name.split("/"))
        if not key:
            raise ColdFileError(
                f"{path}: {name[:80]!r} does not say which item it belongs to: pass a layout"
            )
        found.setdefault(tuple(key), {})[last] = Part(name)
    return {key: _tree(path, key, parts) for key, parts in found.items()}


def _tree(path: Path, key: Key, parts: dict[Any, Part]) -> Tree:
    if all(isinstance(place, str) for place in parts):
        return parts
    if sorted(map(str, parts)) != sorted(map(str, range(len(parts)))):
        raise ColdFileError(
            f"{path}: item {key!r} has arrays at {sorted(map(str, parts))[:8]}, expected 0 to "
            f"{len(parts) - 1}: it is not whole, or pass a layout"
        )
    return tuple(parts[n] for n in range(len(parts)))


def _decoded(part: str) -> int | str:
    number = part.isascii() and part.isdigit() and len(part) < _LONGEST_NUMBER
    return int(part) if number and str(int(part)) == part else part
