"""A pathway: some of a layer's experts alone, behind the router of them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from .assignment import Assignment


def keep_experts(assignment: Assignment, kept: Sequence[int]) -> Assignment:
    """The assignment among the experts that are left, which are numbered anew from 0.

    A pair with an expert that is gone is dropped (still `routed`, not `kept`). Gates, choices and
    places in line are those of the whole layer, so that tokens which never choose a removed
    expert get exactly what the whole layer would give them.

    Args:
        assignment: of a token-choice router over E experts.
        kept: numbers of the experts that are left, ascending, of 0..E-1.

    Raises:
        ValueError: the numbers are none, out of order or of no expert; or the assignment is of
            expert choice, where every expert takes some tokens.

    Examples:
        >>> from byways.routing import route_top_k
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]]])
        >>> whole = route_top_k(logits, selected=1, capacity=None).assignment
        >>> cut = keep_experts(whole, [1, 2])
        >>> cut.num_experts, cut.kept.tolist(), cut.expert.tolist()
        (2, [[True, False]], [[0, 0]])
    """
    numbers = [int(number) for number in kept]
    known = range(assignment.num_experts)
    if not numbers or numbers != sorted(set(numbers)) or not set(numbers) <= set(known):
        raise ValueError(
            f"kept experts {numbers[:16]}: expected numbers of 0..{len(known) - 1}, ascending, at "
            "least one"
        )
    if assignment.layout != "token":
        raise ValueError(
            "an assignment by expert choice has no pathway: each of its experts takes tokens of "
            "every kind"
        )
    place = np.full(len(known), -1, np.int32)
    place[numbers] = np.arange(len(numbers))
    now = jnp.asarray(place)[assignment.expert]
    left = assignment.kept & (now >= 0)
    return dataclasses.replace(
        assignment,
        expert=jnp.where(left, now, 0),
        slot=jnp.where(left, assignment.slot, 0),
        kept=left,
        num_experts=len(numbers),
    )
