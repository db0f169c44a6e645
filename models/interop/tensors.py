"""safetensors files of unknown origin: the header is held against what is expected before any array
is made."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from .errors import WeightsError

# Those of parameters, which are float32 in memory; half precision widens without loss.
TYPES = ("F32", "F16", "BF16")
# A name, type and place take some 150 bytes: room for a hundred thousand arrays.
_LONGEST_HEADER = 2**24

Shapes = Mapping[str, tuple[int, ...]]


def read_shapes(path: Path, *, ignored: Collection[str] = ()) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's arrays, but for those ignored; reads its header alone.

    Raises:
        WeightsError: the file is missing, damaged or no safetensors, or an array is of another type
            than parameters are.
    """
    _check_length(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            parts = {name: file.get_slice(name) for name in file.keys() if name not in ignored}  # noqa: SIM118
            kinds = {name: str(part.get_dtype()) for name, part in parts.items()}
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error
    for name, kind in kinds.items():
        if kind not in TYPES:
            raise WeightsError(
                f"{path}: {name[:80]} has type {kind[:20]}; expected one of {', '.join(TYPES)}"
            )
    return shapes


def read_arrays(path: Path, *, ignored: Collection[str] = ()) -> dict[str, np.ndarray]:
    """All arrays but those ignored, float32. To be called once the shapes are known to be right.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {
                name: file.get_tensor(name).astype(np.float32, copy=False)
                for name in file.keys()  # noqa: SIM118
                if name not in ignored
            }
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays."""
    # safetensors writes the memory as it lies.
    contiguous = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    safetensors.numpy.save_file(contiguous, path)


def check_shapes(expected: Shapes, found: Shapes, where: str, optional: Shapes) -> None:
    """Holds names and shapes against those of a model, and those that it may have besides.

    Raises:
        WeightsError: names are missing or unexpected, or a shape differs.
    """
    expected = {**expected, **{name: optional[name] for name in optional if name in found}}
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or extra:
        raise WeightsError(
            f"{where}: not the parameters of this config (missing: {missing[:3]}, "
            f"unexpected: {[name[:80] for name in extra[:3]]})"
        )
    for name, shape in expected.items():
        if tuple(found[name]) != shape:
            raise WeightsError(f"{where}: {name} has shape {found[name]}, expected {shape}")


def count_elements(shapes: Shapes) -> int:
    """Of all arrays together."""
    return sum(math.prod(shape) for shape in shapes.values())


def _check_length(path: Path) -> None:
    """The header's length, before anybody parses so much."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    if size < 8 or length > size - 8:
        raise WeightsError(
            f"{path}: cannot be read (its header has {length} bytes, the file {size}); truncated, "
            "or no safetensors: fetch it again"
        )
    if length > _LONGEST_HEADER:
        raise WeightsError(f"{path}: its header has {length} bytes, above {_LONGEST_HEADER}")


def _unreadable(path: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{path}: cannot be read ({str(error)[:200]})")
