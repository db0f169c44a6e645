"""What islands tell each other between the forward passes of a step's parts and its update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..objective import Loss
from .packing import Packed, differentiable, packing_of

if TYPE_CHECKING:
    from .part_step import PartStep


class Exchange(Protocol):
    """A way to exchange.

    `cotangents` and `loss` are traced inside of a part's backward pass and of the update. `seen`
    and `told` say which results these are given, as arrays or as nodes of a program.
    """

    def known(self, rows: list[Any]) -> Any:
        """Of each part's rows, what others need besides their own; found before the step."""
        ...

    def seen(self, found: Sequence[Any], known: Any, part: int) -> Any:
        """What a part's backward pass is given, of what the forward passes have found."""
        ...

    def cotangents(self, seen: Any, part: Array) -> tuple[Packed, Any]:
        """Of what was found in a part; and what it tells the update."""
        ...

    def told(self, found: Sequence[Any], made: Any) -> Any:
        """What an update is given besides gradients; `made` told by a backward pass beside it."""
        ...

    def loss(self, told: Any) -> Loss:
        """Of the whole batch."""
        ...


class FoundByAll:
    """Every part sees what all have found, and waits for it: right for any loss."""

    def __init__(self, step: PartStep, found: dict[str, Any]):
        """Args:
        step: whose parts exchange.
        found: shapes of what is found in a part.
        """
        self._step = step
        self._told, _ = packing_of(step.loss_of, *[found] * step.parts)

    def known(self, rows: list[Any]) -> list[Any]:
        return []

    def seen(self, found: Sequence[Any], known: Any, part: int) -> list[Any]:
        return list(found)

    def cotangents(self, seen: list[Packed], part: Array) -> tuple[Packed, Packed]:
        floats, rest = differentiable(
            {name: jnp.stack([each[name] for each in seen]) for name in seen[0]}
        )

        def loss(floats: Packed) -> tuple[Array, Packed]:
            whole = floats | rest
            made = self._step.loss_of(
                *[{k: flat[n] for k, flat in whole.items()} for n in range(self._step.parts)]
            )
            return made[0], self._told.pack(made)

        every, told = jax.grad(loss, has_aux=True)(floats)
        return {name: flat[part] for name, flat in every.items()}, told

    def told(self, found: Sequence[Any], made: Any) -> Any:
        return made

    def loss(self, told: Packed) -> Loss:
        return self._told.unpack(told)
