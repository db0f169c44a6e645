"""A switch's branches as residents: those that wake are fetched, the others need not be there."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .branches import OnDemand
from .cold import Key
from .residents import Residents


class ResidentBranches(OnDemand):
    """Branch b is the item (owner, b), on the device where it runs.

    Attributes:
        residents: which may hold those of several switches.
        owner: of these branches.
    """

    def __init__(self, residents: Residents, owner: Key):
        self.residents, self.owner = residents, owner

    def expect(self, branches: Sequence[int]) -> None:
        self.residents.prefetch(self._keys(branches))

    def fetch(self, branches: Sequence[int]) -> list[Any]:
        """Raises what `Residents.get` raises."""
        return self.residents.get(self._keys(branches))

    def used(self, branches: Sequence[int], out: Any) -> None:
        # Of an array on an island, what makes it can be watched; nobody donates that.
        op = getattr(out, "op", None)
        done = _ticking()(out) if op is None else op
        for key in self._keys(branches):
            self.residents.used(key, done)

    def _keys(self, branches: Sequence[int]) -> list[Key]:
        return [(self.owner, branch) for branch in branches]

    def __repr__(self) -> str:
        return f"ResidentBranches({self.owner!r})"


@functools.cache
def _ticking() -> Any:
    """Makes an array of its own that is there when its argument is, and that nobody donates."""
    return jax.jit(lambda x: jnp.ravel(x)[:1])
