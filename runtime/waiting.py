"""Waiting for an array for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .errors import RunTimeout


def wait_ready(array: Any, limit: float | None, what: Callable[[], str]) -> None:
    """Waits until an array is computed.

    JAX has no wait with a limit, so with one this looks again and again, at intervals of a
    fiftieth of what it has waited, at most half a millisecond.

    Args:
        array: anything with `is_ready` and `block_until_ready`.
        limit: seconds; None is no limit.
        what: says what is waited for, for the message.

    Raises:
        RunTimeout: it is not there after `limit` seconds.
        whatever computing it raised.
    """
    if limit is not None:
        began = time.monotonic()
        while not array.is_ready():
            waited = time.monotonic() - began
            if waited > limit:
                raise RunTimeout(
                    f"{what()} was not there after {limit:g} s: wait longer, or look with a trace "
                    "at what is in front of it"
                )
            time.sleep(min(5e-4, max(1e-5, waited / 50)))
    array.block_until_ready()
