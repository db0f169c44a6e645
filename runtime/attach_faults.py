"""Errors from process to process with their cause."""

from __future__ import annotations

from typing import Any

from .ray_wire import pack_error, unpack_error


def pack_fault(error: BaseException) -> tuple[Any, Any]:
    """An error and its cause, for another process."""
    cause = error.__cause__
    return pack_error(error), None if cause is None else pack_error(cause)


def unpack_fault(packed: tuple[Any, Any], by: str) -> BaseException:
    """The error; notes say where it was raised.

    Args:
        packed: of `pack_fault`.
        by: who raised it.
    """
    error = unpack_error(packed[0], by)
    if packed[1] is not None:
        error.__cause__ = unpack_error(packed[1], by)
    return error
