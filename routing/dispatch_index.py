"""Dispatch by index: gather tokens into the experts' slots, gather results back.

No array of shape (T, E, C) is built, and neither direction scatters rows: a slot holds
at most one token, and in the token layout a token has K pairs, so the transpose of each
gather is again a gather. XLA does not see that and would scatter-add, which on
a CPU is a serial loop, hence the two custom derivatives.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .assignment import Assignment, pair_of_slot
from .experts import ExpertMlp
from .varying import vary_alike


def dispatch_index(
    assignment: Assignment, tokens: Float[Array, "G T D"], experts: ExpertMlp
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token).

    The experts compute in the type of `tokens`; weights are applied and summed in float32.

    Returns:
        (G, T, D) float32; zero for a token with no kept pair.

    Raises:
        ValueError: the assignment is dropless.
    """
    assignment, tokens = vary_alike(assignment, tokens)
    groups, num_tokens, width = tokens.shape
    capacity = assignment.slots
    pair = pair_of_slot(assignment)
    shape = (groups, assignment.num_experts, capacity)
    # Row T of the tokens and row S of the slots stand for "none" and read as zero.
    token_of_slot = _take(assignment.token, pair, fill=num_tokens).reshape(shape)
    slot_of_pair = jnp.where(
        assignment.kept, assignment.expert * capacity + assignment.slot, pair.shape[1]
    )
    if assignment.layout == "token":
        slot_of_pair = slot_of_pair.reshape(groups, num_tokens, -1)
        weight = assignment.weight.reshape(slot_of_pair.shape)
        buffers = _to_slots(tokens, token_of_slot, slot_of_pair)
        return _from_slots(experts.batched(buffers), weight, token_of_slot, slot_of_pair, pair)
    # A token may have any number of pairs here: the sum over them is a true scatter.
    out = experts.batched(_gather_slots(tokens, token_of_slot))
    rows = jnp.arange(groups, dtype=jnp.int32)[:, None]
    values = _gather_pairs(out, slot_of_pair)
    scaled = assignment.weight[..., None] * values.astype(jnp.float32)
    zeros = jnp.zeros((groups, num_tokens, width), jnp.float32)
    return zeros.at[rows, assignment.token].add(scaled)


def _take(values: Num[Array, "G P"], index: Int[Array, "G S"], fill) -> Num[Array, "G S"]:
    """values[g, index[g, s]], or `fill` where the index is P."""
    return jnp.take_along_axis(values, index, axis=1, mode="fill", fill_value=fill)


def _gather_slots(
    tokens: Float[Array, "G T D"], token_of_slot: Int[Array, "G E C"]
) -> Float[Array, "E N D"]:
    """The experts' buffers: rows g*C+c of expert e; empty slots are zero."""
    groups, experts, capacity = token_of_slot.shape
    index = token_of_slot.transpose(1, 0, 2)
    rows = jnp.arange(groups, dtype=jnp.int32)[None, :, None]
    taken = tokens.at[rows, index].get(mode="fill", fill_value=0)
    return taken.reshape(experts, groups * capacity, tokens.shape[-1])


def _gather_pairs(
    buffers: Float[Array, "E N D"], slot_of_pair: Int[Array, "G P"]
) -> Float[Array, "G P D"]:
    """The rows of the buffers where the pairs sit; zero for pairs without a slot."""
    groups = slot_of_pair.shape[0]
    total = buffers.shape[1]
    capacity = total // groups
    # Slot e*C+c of group g is row g*C+c of expert e.
    expert, slot = slot_of_pair // capacity, slot_of_pair % capacity
    rows = jnp.arange(groups, dtype=jnp.int32)[:, None]
    return buffers.at[expert, rows * capacity + slot].get(mode="fill", fill_value=0)


def _weighted_sum(
    buffers: Float[Array, "E N D"],
    weight: Float[Array, "G T K"],
    slot_of_pair: Int[Array, "G T K"],
) -> Float[Array, "G T D"]:
    """Sum over K of weight * row, float32."""
    # One gather per choice fuses with its multiplication and the sum: no (G, T, K, D) array.
    return sum(
        (
            weight[..., k, None] * _gather_pairs(buffers, slot_of_pair[..., k]).astype(jnp.float32)
            for k in range(slot_of_pair.shape[-1])
        ),
        start=jnp.zeros((), jnp.float32),
    )


@jax.custom_vjp
def _to_slots(
    tokens: Float[Array, "G T D"],
    token_of_slot: Int[Array, "G E C"],
    slot_of_pair: Int[Array, "G T K"],
) -> Float[Array, "E N D"]:
    return _gather_slots(tokens, token_of_slot)


def _to_slots_fwd(tokens, token_of_slot, slot_of_pair):
    return _gather_slots(tokens, token_of_slot), slot_of_pair


def _to_slots_bwd(slot_of_pair, grad):
    ones = jnp.ones(slot_of_pair.shape, jnp.float32)
    return _weighted_sum(grad, ones, slot_of_pair).astype(grad.dtype), None, None


_to_slots.defvjp(_to_slots_fwd, _to_slots_bwd)


@jax.custom_vjp
def _from_slots(
    buffers: Float[Array, "E N D"],
    weight: Float[Array, "G T K"],
    token_of_slot: Int[Array, "G E C"],
    slot_of_pair: Int[Array, "G T K"],
    pair: Int[Array, "G S"],
) -> Float[Array, "G T D"]:
    return _weighted_sum(buffers, weight, slot_of_pair)


def _from_slots_fwd(buffers, weight, token_of_slot, slot_of_pair, pair):
    out = _from_slots(buffers, weight, token_of_slot, slot_of_pair, pair)
    return out, (buffers, weight, token_of_slot, slot_of_pair, pair)


def _from_slots_bwd(residuals, grad):
    buffers, weight, token_of_slot, slot_of_pair, pair = residuals
    groups, experts, capacity = token_of_slot.shape
    # Back in the slots, both gradients need the same rows: gather them once.
    rows = _gather_slots(grad, token_of_slot)
    scale = _take(weight.reshape(groups, -1), pair, fill=0.0).reshape(groups, experts, capacity)
    scale = scale.transpose(1, 0, 2).reshape(experts, groups * capacity, 1)
    per_slot = jnp.sum(rows * buffers.astype(jnp.float32), axis=-1)
    per_slot = per_slot.reshape(experts, groups, capacity).transpose(1, 0, 2)
    per_pair = _take(
        per_slot.reshape(groups, -1), slot_of_pair.reshape(groups, -1), fill=0.0
    ).reshape(weight.shape)
    return (scale * rows).astype(buffers.dtype), per_pair, None, None, None


_from_slots.defvjp(_from_slots_fwd, _from_slots_bwd)
