"""What a Soft MoE layer did: how concentrated its weights are, and how alike."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .leaf import Leaf
from .soft import SoftRouting


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SoftSums:
    """Sums over the valid tokens and the slots of soft routing calls; merge by adding leaves.

    Attributes:
        tokens: (), valid tokens.
        slots: (), E*C of each group with a valid token.
        combine_min, combine_max: (), sum over tokens of the smallest and largest combine weight.
        dispatch_min, dispatch_max: (), sum over slots of the smallest and largest dispatch
            weight of a valid token.
        combine_cosine: (), sum over groups with two valid tokens or more of the mean cosine
            between the combine weights of two tokens.
        combine_groups: (), such groups.
        dispatch_cosine: (), sum over groups with a valid token of the mean cosine between the
            dispatch weights of two slots.
        dispatch_groups: (), such groups, or 0 where there is a single slot.
    """

    tokens: Leaf
    slots: Leaf
    combine_min: Leaf
    combine_max: Leaf
    dispatch_min: Leaf
    dispatch_max: Leaf
    combine_cosine: Leaf
    combine_groups: Leaf
    dispatch_cosine: Leaf
    dispatch_groups: Leaf

    def merge(self, other: SoftSums) -> SoftSums:
        """The state of both calls together."""
        return jax.tree.map(lambda a, b: a + b, self, other)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SoftStatistics:
    """Statistics of one Soft MoE layer, as in V-MoE's code; all (), 0 where there is nothing.

    Attributes:
        combine_min, combine_max: mean over tokens of the smallest and largest weight of a slot:
            1/(E*C) each where a token asks for all slots alike.
        dispatch_min, dispatch_max: mean over slots of the smallest and largest weight of a token.
        combine_cosine: mean cosine between two tokens of a group; 1 is no specialisation.
        dispatch_cosine: mean cosine between two slots of a group; 1 is no specialisation.
    """

    combine_min: Leaf
    combine_max: Leaf
    dispatch_min: Leaf
    dispatch_max: Leaf
    combine_cosine: Leaf
    dispatch_cosine: Leaf


def soft_sums(routing: SoftRouting) -> SoftSums:
    """Sum up one call of the soft router; masked tokens are in none of the sums."""
    groups, length = routing.mask.shape
    valid = routing.mask.astype(jnp.float32)
    counts = jnp.sum(valid, axis=1)
    some = (counts > 0).astype(jnp.float32)
    combine = routing.combine.reshape(groups, length, -1)
    dispatch = routing.dispatch.reshape(groups, length, -1)
    slots = dispatch.shape[-1]
    least = jnp.min(jnp.where(routing.mask[..., None], dispatch, jnp.inf), axis=1)
    pairs = (counts > 1).astype(jnp.float32)
    full = some if slots > 1 else jnp.zeros_like(some)
    like = mean_cosine(combine, valid)
    alike = mean_cosine(dispatch.swapaxes(1, 2), jnp.ones((groups, slots)))
    return SoftSums(
        tokens=jnp.sum(counts),
        slots=slots * jnp.sum(some),
        combine_min=jnp.sum(jnp.min(combine, axis=-1)),
        combine_max=jnp.sum(jnp.max(combine, axis=-1)),
        dispatch_min=jnp.sum(jnp.where(some[:, None] > 0, least, 0.0)),
        dispatch_max=jnp.sum(jnp.max(dispatch, axis=1)),
        combine_cosine=jnp.sum(like * pairs),
        combine_groups=jnp.sum(pairs),
        dispatch_cosine=jnp.sum(alike * full),
        dispatch_groups=jnp.sum(full),
    )


def soft_statistics(sums: SoftSums) -> SoftStatistics:
    """Derive the statistics of merged sums."""
    tokens, slots = jnp.maximum(sums.tokens, 1.0), jnp.maximum(sums.slots, 1.0)
    return SoftStatistics(
        combine_min=sums.combine_min / tokens,
        combine_max=sums.combine_max / tokens,
        dispatch_min=sums.dispatch_min / slots,
        dispatch_max=sums.dispatch_max / slots,
        combine_cosine=sums.combine_cosine / jnp.maximum(sums.combine_groups, 1.0),
        dispatch_cosine=sums.dispatch_cosine / jnp.maximum(sums.dispatch_groups, 1.0),
    )


def slot_cosine(slots: Float[Array, "D E C"]) -> Float[Array, ""]:
    """Mean cosine between two of the learned slot vectors (phi); 0 where there is only one."""
    rows = slots.astype(jnp.float32).reshape(1, slots.shape[0], -1).swapaxes(1, 2)
    return mean_cosine(rows, jnp.ones(rows.shape[:2]))[0]


def mean_cosine(vectors: Float[Array, "G V W"], counted: Float[Array, "G V"]) -> Float[Array, " G"]:
    """Mean over pairs of different counted vectors of their cosine; 0 with fewer than two.

    |sum of unit vectors|^2 is n plus the cosines of all ordered pairs: no V*V matrix.
    A zero vector has the cosine 0 with all.
    """
    square = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    some = square > 0
    unit = vectors * jnp.where(some, jax.lax.rsqrt(jnp.where(some, square, 1.0)), 0.0)
    unit = unit * counted[..., None]
    with_itself = jnp.sum(jnp.square(unit), axis=(1, 2))
    number = jnp.sum(counted, axis=1)
    pairs = jnp.maximum(number * (number - 1.0), 1.0)
    together = jnp.sum(jnp.square(jnp.sum(unit, axis=1)), axis=-1)
    return jnp.where(number > 1, (together - with_itself) / pairs, 0.0)
