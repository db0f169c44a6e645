"""Arrays of experts apart from each other, so that one can be there without the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ... import runtime


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class PerExpert:
    """What (E, …) holds, as an array for each expert that is there: a pytree of these.

    Attributes:
        arrays: by the expert's number, ascending.
        count: E.
    """

    arrays: Mapping[int, Any]
    count: int

    def tree_flatten(self):
        return tuple(self.arrays.values()), (tuple(self.arrays), self.count)

    def tree_flatten_with_keys(self):
        key = jax.tree_util.SequenceKey
        return tuple((key(e), a) for e, a in self.arrays.items()), (tuple(self.arrays), self.count)

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(dict(zip(aux[0], children, strict=True)), aux[1])

    def __getitem__(self, expert: int) -> Any:
        return self.arrays[expert]

    def stacked(self, like: Any = None) -> Array:
        """(E, …), bit for bit; zeros for experts that are not there.

        Raises:
            ValueError: nobody is there and `like`, anything of one expert's shape, is not given.
        """
        if not self.arrays and like is None:
            raise ValueError("no expert is there: pass `like`, an array of one expert's shape")
        some: Any = next(iter(self.arrays.values()), like)
        home = jax.devices()[0]
        parts: list[Any] = [self.arrays.get(e) for e in range(self.count)]
        blank: Any = (
            None if all(p is not None for p in parts) else jnp.zeros(some.shape, some.dtype)
        )
        # Some may be on islands of other processes.
        return jnp.stack(
            [blank if p is None else jax.device_put(jnp.asarray(p), home) for p in parts]
        )


def split_experts(
    stacked: Array, homes: Sequence[runtime.Device] | Sequence[runtime.Slice]
) -> PerExpert:
    """(E, …) as E arrays, bit for bit, dealt out to devices or slices in turn."""
    arrays = {e: _put(stacked[e], homes[e % len(homes)]) for e in range(stacked.shape[0])}
    return PerExpert(arrays, stacked.shape[0])


def _put(array: Array, home: runtime.Device | runtime.Slice) -> Any:
    return home.put(array) if isinstance(home, runtime.Slice) else jax.device_put(array, home)


class ExpertWeights:
    """The weights of a layer's experts, as the switch asks for them."""

    at_hand = True

    def __init__(self, parts: Sequence[PerExpert]):
        self.parts = parts

    def fetch(self, experts: Sequence[int]) -> list[tuple[Any, ...]]:
        """(up, up_bias, down, down_bias) of each."""
        arrays = [part.arrays for part in self.parts]
        return [tuple([part[e] for part in arrays]) for e in experts]
