"""Parts of which none waits for another's forward pass: gradients alone are exchanged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..config import Experiment
from ..objective import Loss
from .needs import needed
from .packing import Packed, differentiable
from .part_step import PartStep


def step_in_parts(config: Experiment, parts: int) -> PartStep:
    """A `PartStep` that exchanges no more than its objective needs.

    Args:
        config, parts: as of a `PartStep`.
    """
    step = PartStep(config, parts)
    wanted = needed(step)
    if wanted is not None:
        step.exchange = GradientsAlone(step, wanted)
    return step


class GradientsAlone:
    """A part's backward pass sees what was found in it, and of the others what their rows tell."""

    def __init__(self, step: PartStep, wanted: list[int]):
        """Args:
        step: whose parts exchange.
        wanted: leaves of what is found in each part that the others' gradients need, and the rows
            alone give.
        """
        self._step, self._wanted = step, wanted
        self._look = jax.jit(self._looked)

    def known(self, rows: list[Any]) -> list[list[Array]]:
        return self._look(rows) if self._wanted else [[] for _ in rows]

    def seen(self, found: Sequence[Any], known: Any, part: int) -> tuple[Any, Any]:
        return found[part], known

    def cotangents(
        self, seen: tuple[Packed, list[list[Array]]], part: Array
    ) -> tuple[Packed, Packed]:
        step, (found, known) = self._step, seen
        floats, rest = differentiable(found)

        def loss(floats: Packed) -> Array:
            own = step.exchanged.leaves(floats | rest)
            for n in self._wanted:  # which no parameters change
                own[n] = jax.lax.stop_gradient(own[n])
            parts = [self._of_part(own, known[n], part == n) for n in range(step.parts)]
            return step.loss(*map(step.exchanged.tree, parts))[0]

        return jax.grad(loss)(floats), {}

    def told(self, found: Sequence[Any], made: Any) -> list[Any]:
        return list(found)

    def loss(self, told: list[Packed]) -> Loss:
        return self._step.loss_of(*told)

    def _of_part(self, own: list[Array], known: list[Array], here: Array) -> list[Array]:
        """A part's leaves: one's own; of another those that are known, and zeros."""
        other = dict(zip(self._wanted, known, strict=True))
        return [
            jnp.where(here, leaf, other.get(n, jnp.zeros((), leaf.dtype)))
            for n, leaf in enumerate(own)
        ]

    def _looked(self, rows: list[Any]) -> list[list[Array]]:
        step, number = self._step, jnp.int32(0)
        # Any parameters do: nothing that is looked at depends on them, and XLA leaves the rest out.
        params = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), step.params)
        each: list[Any] = [
            jax.tree.leaves(step.read(params, part, number, jnp.int32(n)))
            for n, part in enumerate(rows)
        ]
        return [[leaves[n] for n in self._wanted] for leaves in each]
