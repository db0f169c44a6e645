"""The IDX files of the MNIST family: a magic number, big-endian sizes, then bytes, in gzip."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from .records import RecordError

_BYTES = 8  # IDX's code of unsigned bytes, the only type that these sets use
_LARGEST = 1 << 30


def read_idx(path: Path, dims: int) -> np.ndarray:
    """The array of a gzipped IDX file of unsigned bytes.

    Args:
        path: the file.
        dims: how many dimensions it must have.

    Returns:
        uint8, of the shape that the file's header says.

    Raises:
        RecordError: it is absent, is no gzip or no IDX file of bytes, has other dimensions, is
            cut short or goes on after its end, or says that it holds over 1 GiB.
    """
    try:
        with gzip.open(path) as file:
            header = file.read(4 + 4 * dims)
            if len(header) < 4 + 4 * dims:
                raise _bad(path, f"ends within its header, after {len(header)} bytes")
            if header[:3] != bytes((0, 0, _BYTES)) or header[3] != dims:
                expected = bytes((0, 0, _BYTES, dims)).hex()
                raise _bad(path, f"begins with {header[:4].hex()}, where {expected} is expected")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", dims, 4))
            size = math.prod(shape)
            if size > _LARGEST:
                raise _bad(path, f"says that its shape is {shape}, over {_LARGEST >> 30} GiB")
            # One more than there should be, to see that nothing follows.
            data = file.read(size + 1)
    except FileNotFoundError as error:
        raise RecordError(f"{path} is missing.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(path, f"cannot be unpacked ({error})") from error
    if len(data) != size:
        many = "more" if len(data) > size else f"{len(data)}"
        raise _bad(path, f"holds {many} bytes, where its shape {shape} makes {size}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _bad(path: Path, reason: str) -> RecordError:
    return RecordError(f"{path} is corrupt: it {reason}. Install or fetch it again.")
