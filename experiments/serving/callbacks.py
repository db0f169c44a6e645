"""Calls of those who asked to be told, from a thread that others wait for."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any


def tell(what: str, callback: Callable[[Any], object], told: Any) -> None:
    """Calls it; an error of it is a warning, since it is nobody else's.

    Args:
        what: the callback's name, for the warning.
        callback: whatever a user gave.
        told: its argument.
    """
    try:
        callback(told)
    except Exception as error:
        # Warnings may be errors: that one is not for who calls either.
        with contextlib.suppress(RuntimeWarning):
            warnings.warn(
                f"{what}({told!r}) raised {type(error).__name__}: {error}. It was told, and all "
                f"else goes on: catch in {what} what it may raise",
                RuntimeWarning,
                stacklevel=2,
            )
