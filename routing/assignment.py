"""The one thing a router hands to a dispatcher: which token fills which slot of which expert."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .leaf import Leaf

Layout = Literal["token", "expert"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Assignment:
    """Pairs of a token and an expert, as a list of coordinates for each group.

    Routers of every kind make this and dispatchers of every kind take it, so that
    neither knows the other. A pair that is not `kept` carries nothing; its `slot` is
    then meaningless, and its `token` and `expert` only tell who was turned away.

    Attributes:
        token: (G, P) int32, index in 0..T-1 of the pair's token within its group.
        expert: (G, P) int32, index in 0..E-1 of its expert.
        slot: (G, P) int32, place within the expert's buffer: the rank of the pair among
            those that want this expert, in 0..C-1 for a kept pair of finite capacity.
        weight: (G, P) float32, the gate that multiplies the expert's output; gradients
            of the router flow through it.
        routed: (G, P) bool, the router wanted this pair; false only for masked tokens.
        kept: (G, P) bool, routed and given a slot. `routed & ~kept` was dropped.
        num_tokens: T.
        num_experts: E.
        capacity: C, slots of each expert in each group; None is dropless.
        layout: how the P pairs are ordered. `token`: P = T*K, pairs `t*K .. t*K+K-1` are
            token t's choices, best first. `expert`: P = E*C, pairs `e*C .. e*C+C-1` fill
            the slots of expert e in order.
    """

    token: Leaf
    expert: Leaf
    slot: Leaf
    weight: Leaf
    routed: Leaf
    kept: Leaf
    num_tokens: int = dataclasses.field(metadata={"static": True})
    num_experts: int = dataclasses.field(metadata={"static": True})
    capacity: int | None = dataclasses.field(metadata={"static": True})
    layout: Layout = dataclasses.field(metadata={"static": True}, default="token")

    @property
    def pairs_per_token(self) -> int:
        """K of a `token` layout.

        Raises:
            ValueError: the layout is `expert`, where a token may have any number of pairs.
        """
        if self.layout != "token":
            raise ValueError(f"layout {self.layout!r} has no fixed number of pairs per token")
        return self.token.shape[1] // self.num_tokens

    @property
    def slots(self) -> int:
        """C, where it must be finite.

        Raises:
            ValueError: the assignment is dropless, so that its experts have no fixed slots.
        """
        if self.capacity is None:
            raise ValueError(
                "a dropless assignment (capacity None) has no slots of fixed number: "
                "use the `blocked` dispatcher, or route with a capacity"
            )
        return self.capacity


def pair_of_slot(assignment: Assignment) -> Int[Array, "G S"]:
    """The inverse map, from slots (S = E*C, expert-major) to pairs.

    Returns:
        int32 indices in 0..P-1; P marks an empty slot.

    Raises:
        ValueError: the assignment is dropless, so that its experts have no fixed slots.
    """
    capacity = assignment.slots
    groups, pairs = assignment.token.shape
    slots = assignment.num_experts * capacity
    # What is not kept is sent past the end, where mode="drop" forgets it.
    target = jnp.where(assignment.kept, assignment.expert * capacity + assignment.slot, slots)
    numbers = jnp.broadcast_to(jnp.arange(pairs, dtype=jnp.int32), (groups, pairs))
    empty = jnp.full((groups, slots), pairs, jnp.int32)
    rows = jnp.arange(groups, dtype=jnp.int32)[:, None]
    return empty.at[rows, target].set(numbers, mode="drop")
