"""Waiting for an array for a bounded time, asking whether it is there, and getting it here."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .branches import Sparse
from .errors import RunTimeout


def is_ready(array: Any) -> bool:
    """It is computed, or will never be; arrays of random keys cannot be asked themselves."""
    look = getattr(array, "poll", None) or getattr(array, "is_ready", None)
    if look is None:
        kind = getattr(array, "dtype", None)
        keys = kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)
        data: Any = jax.random.key_data(array) if keys else None
        return data is None or data.is_ready()
    return look()


def is_partly_gone(array: Any) -> bool:
    """One of its shards was donated or deleted; `is_deleted` looks at the first alone."""
    if is_gone(array):
        return True
    try:
        return any(shard.data.is_deleted() for shard in getattr(array, "addressable_shards", ()))
    except RuntimeError:  # in between
        return True


def is_gone(array: Any) -> bool:
    """It was donated or deleted; what is no array never is."""
    look = getattr(array, "is_deleted", None)
    return look is not None and look()


def fetched(array: Any) -> Any:
    """What is on an island of another process as an array of this one; all else as it is."""
    if isinstance(array, jax.Array):
        return array
    if type(array) is Sparse:
        return Sparse({branch: jax.tree.map(fetched, tree) for branch, tree in array.items()})
    there = getattr(array, "fetched", None)
    return array if there is None else there()


def wait_ready(array: Any, limit: float | None, what: Callable[[], str]) -> None:
    """Waits until an array is computed.

    JAX has no wait with a limit, so with one this looks again and again, at intervals of a
    fiftieth of what it has waited, at most half a millisecond.

    Args:
        array: a `jax.Array`, or what passes for one; anything else is there already.
        limit: seconds; None is no limit.
        what: says what is waited for, for the message.

    Raises:
        RunTimeout: it is not there after `limit` seconds.
        whatever computing it raised.
    """
    bounded = None if limit is None else getattr(array, "wait_at_most", None)
    if bounded is not None:  # it has a time of its own
        if not bounded(limit):
            raise _late(what, limit)
    elif limit is not None:
        began = time.monotonic()
        while not is_ready(array):
            waited = time.monotonic() - began
            if waited > limit:
                raise _late(what, limit)
            time.sleep(min(5e-4, max(1e-5, waited / 50)))
    wait = getattr(array, "block_until_ready", None)
    if wait is not None:
        wait()


def _late(what: Callable[[], str], limit: float | None) -> RunTimeout:
    return RunTimeout(
        f"{what()} was not there after {limit:g} s: wait longer, or look with a trace "
        "at what is in front of it"
    )
