"""msgpack of unknown origin, decoded into plain values: nothing is called, nothing unpickled.

Extension types come back as `msgpack.ExtType` for the caller to look into; an array's bytes are
looked at only once its shape, type and size agree.
"""

from __future__ import annotations

import math
from typing import Any

import msgpack
import numpy as np

from .errors import WeightsError

DTYPES = {
    name: np.dtype(name)
    for name in (
        *("float16", "float32", "float64", "bool"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    )
}


def unpack(data: bytes, where: str) -> Any:
    """One msgpack value.

    Args:
        data: of a file, or of an extension type within.
        where: for messages.

    Raises:
        WeightsError: it is no msgpack, there is more than one value, or a map has a key twice or
            one that is no string.
    """
    try:
        return msgpack.unpackb(data, raw=False, object_pairs_hook=_named, use_list=True)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        # msgpack's own messages may hold the bytes themselves.
        raise WeightsError(
            f"{where}: no msgpack of named parts, or truncated ({type(error).__name__}); "
            "fetch the file again"
        ) from None


def _named(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A map of strings, each there once: other keys neither sort nor make names."""
    if not all(isinstance(key, str) for key, _ in pairs):
        raise ValueError
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def extension(value: Any, code: int, where: str) -> Any:
    """The value packed inside an extension type.

    Raises:
        WeightsError: it is something else.
    """
    if not isinstance(value, msgpack.ExtType) or value.code != code:
        raise WeightsError(f"{where}: expected msgpack extension type {code}, found {_kind(value)}")
    return unpack(value.data, where)


def nested(value: Any, where: str) -> Any:
    """A value that is packed inside a byte string.

    Raises:
        WeightsError: it is something else.
    """
    if not isinstance(value, bytes):
        raise WeightsError(f"{where}: expected packed bytes, found {_kind(value)}")
    return unpack(value, where)


def sequence(value: Any, length: int | None, where: str) -> list:
    """A list, of this length unless None.

    Raises:
        WeightsError: it is something else.
    """
    if not isinstance(value, list) or (length is not None and len(value) != length):
        wanted = "a list" if length is None else f"a list of {length}"
        raise WeightsError(f"{where}: expected {wanted}, found {_kind(value)}")
    return value


def shape(value: Any, where: str) -> tuple[int, ...]:
    """A shape: at most 8 sizes of 0 and above, of less than 2**48 elements without the zeros.

    Raises:
        WeightsError: it is none.
    """
    sizes = sequence(value, None, where)
    if len(sizes) > 8 or any(type(size) is not int or size < 0 for size in sizes):
        raise WeightsError(f"{where}: {str(value)[:80]} is no shape")
    # An array of nothing may still be too long for NumPy along its other axes.
    if math.prod(size for size in sizes if size) >= 2**48:
        raise WeightsError(f"{where}: shape {tuple(sizes)} has too many elements to be true")
    return tuple(sizes)


def dtype(value: Any, where: str) -> np.dtype:
    """A type of array elements, by its NumPy name, or bfloat16.

    Raises:
        WeightsError: none that weights have.
    """
    if value == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if not isinstance(value, str) or value not in DTYPES:
        known = ", ".join((*DTYPES, "bfloat16"))
        raise WeightsError(f"{where}: element type {str(value)[:40]!r}; expected one of {known}")
    return DTYPES[value]


def array(value: Any, where: str) -> np.ndarray:
    """An array: extension type 1 of (shape, element type, bytes). Its memory is the file's.

    Raises:
        WeightsError: shape, type and number of bytes do not agree.
    """
    parts = sequence(extension(value, 1, where), 3, where)
    sizes, kind, data = shape(parts[0], where), dtype(parts[1], where), parts[2]
    expected = math.prod(sizes) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        found = len(data) if isinstance(data, bytes) else _kind(data)
        raise WeightsError(
            f"{where}: an array of shape {sizes} and type {kind} takes {expected} bytes, "
            f"and there are {found}"
        )
    return np.frombuffer(data, kind).reshape(sizes)


def _kind(value: Any) -> str:
    if isinstance(value, msgpack.ExtType):
        return f"extension type {value.code}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return type(value).__name__
