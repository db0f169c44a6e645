"""A step in parts of which none waits for another's forward pass: gradients alone are exchanged.

backward  what was found here, and of all rows what the loss needs  ->  part p's gradient
update    all gradients and all that was found  ->  the loss, the optimiser's step
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..config import Experiment
from ..objective import Batch
from .needs import needed
from .packing import Packed, differentiable
from .part_step import PartStep, Residuals


def step_in_parts(config: Experiment, parts: int) -> PartStep:
    """A `PartStep`, or an `AloneStep` where the objective has one.

    Args:
        config, parts: as of a `PartStep`.
    """
    step = PartStep(config, parts)
    wanted = needed(step)
    return step if wanted is None else AloneStep(step, wanted)


class AloneStep(PartStep):
    """The functions; `backward` and `update` take other arguments than a `PartStep`'s."""

    waits = False

    def __init__(self, step: PartStep, wanted: list[int]):
        """Args:
        step: for the same config and number of parts.
        wanted: leaves of what is found in each part that the others' gradients need, and the rows
            alone give.
        """
        self.__dict__.update(step.__dict__)
        self._wanted = wanted
        self._look = jax.jit(self._looked)

    def known(self, rows: list[Any]) -> list[list[Array]]:
        """Of each part's rows, what the others need; computed here, by this process."""
        return self._look(rows) if self._wanted else [[] for _ in rows]

    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        state: Packed,
        rows: Batch,
        residuals: Residuals,
        found: Packed,
        known: list[list[Array]],
        part: Array,
    ) -> Packed:
        """One part's gradient of the loss of the whole batch.

        Args:
            state, rows, residuals: of the forward pass of this part, which was traced before.
            found: what it has found.
            known: of all parts.
            part: p.
        """
        floats, rest = differentiable(found)

        def loss(floats: Packed) -> Array:
            own = self.exchanged.leaves(floats | rest)
            for n in self._wanted:  # which no parameters change
                own[n] = jax.lax.stop_gradient(own[n])
            parts = [self._seen(own, known[n], part == n) for n in range(self.parts)]
            return self.loss(*map(self.exchanged.tree, parts))[0]

        return self._pulled(state, rows, residuals, jax.grad(loss)(floats))

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: Packed, gradients: list[Packed], found: list[Packed]
    ) -> tuple[Packed, Array]:
        """The state after the step, and the loss.

        Args:
            state: packed.
            gradients, found: of each part, in order.
        """
        return self._after(state, gradients, self._loss_of(*found))

    def _seen(self, own: list[Array], known: list[Array], here: Array) -> list[Array]:
        """A part's leaves: one's own; of another those that are known, and zeros."""
        other = dict(zip(self._wanted, known, strict=True))
        return [
            jnp.where(here, leaf, other.get(n, jnp.zeros((), leaf.dtype)))
            for n, leaf in enumerate(own)
        ]

    def _looked(self, rows: list[Batch]) -> list[list[Array]]:
        # Any parameters do: nothing that is looked at depends on them, and XLA leaves the rest out.
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.params)
        number = jnp.int32(0)
        each: list[Any] = [
            jax.tree.leaves(self.read(params, part, number, jnp.int32(n)))
            for n, part in enumerate(rows)
        ]
        return [[leaves[n] for n in self._wanted] for leaves in each]
