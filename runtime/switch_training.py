"""How a switch runs forward for gradients, and backward: plain data, one order of nodes.

As `switch_forward`, for whoever has read the counts. What the backward needs of the forward is kept
where the nodes ran.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from .branches import Keeps
from .switch_forward import Driver, Forward
from .switch_kinds import BACKWARD, KEEPING
from .waking import Awake


@dataclasses.dataclass
class Kept(Keeps):
    """What the backward pass of a switch needs of the forward: arrays of awake branches."""

    groups: list[Awake]
    rows: list[Any]  # by home
    saved: list[Any]  # by group: flat leaves, or None

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.saved))


@dataclasses.dataclass(frozen=True)
class Training:
    """Of a switch over rows of one shape.

    Attributes:
        forward: how it runs without gradients.
        leaves: arrays of one branch's parameters.
        floats: the rows have a gradient, too.
    """

    forward: Forward
    leaves: int
    floats: bool

    def run(self, driver: Driver, groups: Sequence[Awake], rows: Any) -> tuple[list[Any], Kept]:
        """Sends the nodes forward; gives every home's part, on the first, and what is kept."""
        forward, used = self.forward, {group.home for group in groups}
        copies = forward.spread(driver, rows, used)
        buffers = [
            driver.node("zeros", h, [])[0] if h in used else None for h in range(forward.homes)
        ]
        kept = Kept(list(groups), copies, [])
        for group in groups:
            params, h = driver.params(group.branches), group.home
            leaves = [buffers[h], copies[h], group.spans, *params]
            buffers[h], *saved = driver.node(KEEPING.grouped(forward.alike), h, leaves, group)
            kept.saved.append(saved or None)
        return forward.home(driver, buffers, "zeros"), kept

    def back(
        self, driver: Driver, kept: Kept, grads: Sequence[Any]
    ) -> tuple[dict[int, list[Any]], list[Any]]:
        """Sends the nodes backward.

        Args:
            driver: of which the cotangents are owned or not.
            kept: by the forward.
            grads: a cotangent for each home's part, on the first.

        Returns:
            leaves of the gradient of each branch that was awake, at its home; the cotangents of the
            rows, as the parts, or none if rows have none.
        """
        forward, grads = self.forward, list(grads)
        used = {group.home for group in kept.groups}
        if 0 in used and forward.alike and not driver.owns(0):
            (grads[0],) = driver.node("copy grad", 0, [grads[0]])
        away = [h for h in range(1, forward.homes) if h in used]
        if away:
            moved = driver.move([grads[h] for h in away], away)
            for h, grad in zip(away, moved, strict=True):
                grads[h] = grad
                if forward.alike and forward.beside[h] and not driver.owns(h):
                    (grads[h],) = driver.node("copy grad", h, [grad])
        buffers: list[Any] = [grad if h in used else None for h, grad in enumerate(grads)]
        if not forward.alike:
            buffers = [
                driver.node("zero rows", h, [])[0] if h in used else None
                for h in range(forward.homes)
            ]
        kind, found = BACKWARD.grouped(forward.alike), {}
        for group, saved in zip(kept.groups, kept.saved, strict=True):
            h = group.home
            rest = [kept.rows[h], *(saved or ()), group.spans, *driver.params(group.branches)]
            first = [buffers[h]] if forward.alike else [buffers[h], grads[h]]
            buffers[h], *made = driver.node(kind, h, [*first, *rest], group)
            for n, branch in enumerate(group.branches):
                found[branch] = made[n * self.leaves : (n + 1) * self.leaves]
        return found, forward.home(driver, buffers, "zero rows") if self.floats else []
