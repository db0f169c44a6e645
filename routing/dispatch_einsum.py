"""Dispatch by one-hot masks: the reference that the other dispatchers are held against.

Plain, and slow: the masks have G*T*E*C entries and multiplying by them costs
2*T*E*C*D per group each way, which grows with the square of the group.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from .assignment import Assignment
from .experts import ExpertMlp


def dispatch_masks(
    assignment: Assignment,
) -> tuple[Float[Array, "G T E C"], Float[Array, "G T E C"]]:
    """The 0/1 dispatch mask and the weighted combine mask, float32.

    Raises:
        ValueError: the assignment is dropless.
    """
    capacity = assignment.slots
    token, expert, slot = (
        x[..., None] == jnp.arange(n)
        for x, n in [
            (assignment.token, assignment.num_tokens),
            (assignment.expert, assignment.num_experts),
            (assignment.slot, capacity),
        ]
    )
    token = (token & assignment.kept[..., None]).astype(jnp.float32)
    expert, slot = expert.astype(jnp.float32), slot.astype(jnp.float32)
    dispatch = jnp.einsum("gpt,gpe,gpc->gtec", token, expert, slot)
    combine = jnp.einsum("gp,gpt,gpe,gpc->gtec", assignment.weight, token, expert, slot)
    return dispatch, combine


def dispatch_einsum(
    assignment: Assignment, tokens: Float[Array, "G T D"], experts: ExpertMlp
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Raises:
        ValueError: the assignment is dropless.
    """
    dispatch, combine = dispatch_masks(assignment)
    groups, experts_, capacity = tokens.shape[0], dispatch.shape[2], dispatch.shape[3]
    # Zero times an unrouted NaN is NaN: only kept tokens may reach the product.
    reached = jnp.any(dispatch > 0, axis=(2, 3))[..., None]
    clean = jnp.where(reached, tokens, 0)
    buffers = jnp.einsum("gtec,gtd->egcd", dispatch.astype(tokens.dtype), clean)
    out = experts.batched(buffers.reshape(experts_, groups * capacity, -1))
    out = out.reshape(experts_, groups, capacity, -1).astype(jnp.float32)
    return jnp.einsum("gtec,egcd->gtd", combine, out)
