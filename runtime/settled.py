"""Asking an array of someone else's whether it is there, without falling over its deletion."""

from __future__ import annotations

import operator
from typing import Any


def settled(array: Any) -> bool:
    """It is computed, has failed, or was deleted or donated.

    `is_ready` of a deleted array ends the process, and its owner may delete it at any moment in
    another thread. Both questions are therefore asked within one call of C, which no other thread
    can come between.
    """
    return any(map(operator.call, (array.is_deleted, array.is_ready)))


def look(array: Any) -> None:
    """Waits for an array, unless it was deleted.

    Raises:
        whatever computing it, or its transfer, raised.
    """
    try:
        array.block_until_ready()
    except Exception:
        if not array.is_deleted():
            raise
