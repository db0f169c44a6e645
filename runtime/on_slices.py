"""Functions and arrays on slices outside of any program: arrays in, arrays out, on any back end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax

from .backend import Local
from .computations import Computation
from .resources import Slice
from .values import arrays

# A `jax.Array`, or what passes for one where it is an island's of another process.
AnyArray = Any


class OnSlices:
    """A function to be called on slices: `OnSlices(fn).on(part)(*args)`.

    For work between programs, such as an optimiser's, whose arrays a caller keeps and gives up
    itself. On devices of this process it is a plain `jax.jit`, whose results no account counts; on
    other islands a program of one node. Results are where they were made.

    Attributes:
        fn: of pytrees of arrays.
        donate: arguments whose buffers it takes over, by position.
    """

    def __init__(self, fn: Callable[..., Any], *, donate: tuple[int, ...] = ()):
        self.fn, self.donate = fn, donate
        self._jitted = jax.jit(fn, donate_argnums=donate)
        self._elsewhere: dict[Slice, Computation] = {}

    def on(self, part: Slice) -> Callable[..., Any]:
        """The function on a slice, where its arguments are or are brought."""
        if isinstance(part.backend, Local):
            return self._jitted
        if part not in self._elsewhere:
            self._elsewhere[part] = Computation(self.fn, part, donate=self.donate)
        found = self._elsewhere[part]
        return lambda *args: arrays(found(*args))


def put(leaves: Sequence[Any], parts: Sequence[Slice]) -> list[Any]:
    """Arrays, wherever they are, each whole on its slice of one runtime, all in one batch."""
    if not leaves:
        return []
    return list(parts[0].backend.put(list(leaves), [part.sharding() for part in parts]))
