"""What goes between the controller and its islands, in forms that pickle anywhere."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import numpy as np

from .carried_errors import carried_error
from .faults import TRACEBACK, said


def to_wire(array: Any) -> Any:
    """An array or a number as NumPy has it; random keys as (implementation, data)."""
    import jax

    dtype = getattr(array, "dtype", None)
    if dtype is None:
        dtype = jax.dtypes.canonicalize_dtype(jax.numpy.result_type(array))
        return np.asarray(array, dtype)
    if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        return str(jax.random.key_impl(array)), np.asarray(jax.random.key_data(array))
    return np.asarray(array, jax.dtypes.canonicalize_dtype(dtype))


def from_wire(wire: Any) -> Any:
    """A `jax.Array` of this process."""
    import jax

    if isinstance(wire, tuple):
        kind, data = wire
        return jax.random.wrap_key_data(jax.numpy.asarray(data), impl=kind)
    return jax.numpy.asarray(wire)


class RemoteError(Exception):
    """A node's own exception, of a class that is not known here; its message names it."""


def pack_error(error: BaseException) -> tuple[bytes | None, str, str]:
    """An exception for another process: pickled, in a line, and where it was raised."""
    error = carried_error(error) or error
    where = "".join(traceback.format_exception(error, limit=-TRACEBACK))
    notes = getattr(error, "__notes__", [])
    try:
        whole = pickle.dumps(error)
    except Exception:  # whatever its class does when it is pickled
        whole = None
    return whole, said(error), where if not notes else where + "\n".join(notes)


def unpack_error(packed: tuple[bytes | None, str, str], by: str = "on the island") -> BaseException:
    """The exception, or a `RemoteError` that tells of it; a note says where it was raised."""
    whole, text, where = packed
    found: Any = None
    if whole is not None:
        try:
            found = pickle.loads(whole)
        except Exception:  # its class is not here, or does not take its own arguments
            found = None
    if not isinstance(found, BaseException):
        found = RemoteError(text)
    found.add_note(f"It was raised {by}:\n{where}")
    return found
