"""The header of a safetensors file of unknown origin: names, types and places, all checked."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from .cold_errors import ColdFileError

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
}
TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# A name, type and place take some 150 bytes: room for four hundred thousand tensors.
LONGEST_HEADER = 2**26
_MOST_DIMENSIONS = 32
_METADATA = "__metadata__"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where one lies in the file.

    Attributes:
        dtype: of its elements.
        shape: () is a number.
        start, stop: bytes from the beginning of the file.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors by name, in the order of the file; reads the header alone.

    Raises:
        ColdFileError: missing, truncated, no safetensors; a type that is not known; lengths that
            are not those of the shapes; tensors that overlap, leave holes or reach past the end.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ColdFileError(
                    f"{path}: its header has {length} bytes and the file {size}: it is truncated, "
                    "or no safetensors; write it again"
                )
            if length > LONGEST_HEADER:
                raise ColdFileError(
                    f"{path}: its header has {length} bytes, above {LONGEST_HEADER}"
                )
            text = file.read(length)
    except OSError as error:
        raise ColdFileError(f"{path}: cannot be read ({error})") from error
    try:
        found = json.loads(text.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ColdFileError(f"{path}: its header is no JSON ({str(error)[:80]})") from error
    if not isinstance(found, dict):
        raise ColdFileError(f"{path}: its header is a {type(found).__name__}, not an object")
    found.pop(_METADATA, None)
    start = 8 + length
    tensors = {name: _tensor(path, name, entry, start) for name, entry in found.items()}
    tensors = dict(sorted(tensors.items(), key=lambda it: (it[1].start, it[1].stop)))
    _check_places(path, tensors, start, size)
    return tensors


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _tensor(path: Path, name: str, entry: Any, base: int) -> Tensor:
    where = f"{path}: {name[:80]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ColdFileError(f"{where} must have a dtype, a shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ColdFileError(
            f"{where} has type {str(kind)[:20]!r}; expected one of {', '.join(DTYPES)}"
        )
    if not _sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise ColdFileError(f"{where} has shape {str(shape)[:80]}, which is no list of sizes")
    if not _sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ColdFileError(f"{where} has data_offsets {str(offsets)[:80]}: two, ascending")
    need = math.prod(shape) * DTYPES[kind].itemsize  # Python's integers: nothing wraps round
    if offsets[1] - offsets[0] != need:
        raise ColdFileError(
            f"{where}: {kind} of shape {str(tuple(shape))[:80]} takes {need} bytes, its "
            f"data_offsets hold {offsets[1] - offsets[0]}"
        )
    return Tensor(DTYPES[kind], tuple(shape), base + offsets[0], base + offsets[1])


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def _check_places(path: Path, tensors: dict[str, Tensor], start: int, size: int) -> None:
    """As the format wants it: one after another, from the header to the end."""
    end, before = start, "the header"
    for name, tensor in tensors.items():
        if tensor.start != end:
            what = "overlaps" if tensor.start < end else "leaves a hole after"
            raise ColdFileError(f"{path}: {name[:80]!r} {what} {before[:80]!r}")
        end, before = tensor.stop, name
    if end != size:
        raise ColdFileError(
            f"{path}: its tensors end at byte {end}, the file at {size}: it is truncated, or was "
            "written to; write it again"
        )
