"""Soft MoE: every slot is a mixture of all tokens, every token of all slots (arXiv 2308.00951)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .checks import check_capacity, check_mask, check_not_empty
from .experts import ExpertMlp
from .leaf import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SoftRouting:
    """Dense weights, in the place of an `Assignment`; nothing is dropped.

    Attributes:
        dispatch: (G, T, E, C) float32, share of each token in a slot: over T they sum to 1
            (to 0 in a group that is masked as a whole).
        combine: (G, T, E, C) float32, share of each slot in a token: over E and C they sum to 1
            (to 0 for a masked token).
        mask: (G, T) bool.
    """

    dispatch: Leaf
    combine: Leaf
    mask: Leaf


def route_soft(
    tokens: Float[Array, "G T D"],
    slots: Float[Array, "D E C"],
    scale: Float[Array, ""],
    mask: Bool[Array, "G T"] | None = None,
) -> SoftRouting:
    """Weights from cosines of tokens and learned slot vectors (section 2.1, algorithm 2).

    logits = scale * <x / |x|, phi / |phi|>; dispatch = softmax over the tokens, combine = softmax
    over all slots; |v| = sqrt(sum v^2 + 1e-6). All in float32. Not for causal models: slots mix
    all tokens of the group. Masked tokens have weight 0 in every slot.

    Args:
        tokens: of any float type.
        slots: phi, C slots for each of the E experts.
        scale: learned, 1 to begin with.
        mask: true for tokens that take part; None is all.

    Raises:
        ValueError: an axis is empty, or the mask has another shape.
    """
    check_not_empty((*tokens.shape[:2], slots.shape[1]))
    check_capacity(slots.shape[2])
    if mask is None:
        mask = jnp.ones(tokens.shape[:2], bool)
    check_mask(mask, tokens.shape[:2])
    x = jnp.where(mask[..., None], tokens.astype(jnp.float32), 0.0)
    x = x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + 1e-6)
    phi = slots.astype(jnp.float32)
    phi = phi * jax.lax.rsqrt(jnp.sum(jnp.square(phi), axis=0, keepdims=True) + 1e-6)
    logits = scale.astype(jnp.float32) * jnp.einsum("gtd,dec->gtec", x, phi, precision="highest")
    takes_part = mask[..., None, None]
    # Finite rather than -inf, so that a group without tokens has finite gradients.
    dispatch = jax.nn.softmax(jnp.where(takes_part, logits, -1e30), axis=1)
    combine = jax.nn.softmax(logits, axis=(2, 3))
    return SoftRouting(
        jnp.where(takes_part, dispatch, 0.0), jnp.where(takes_part, combine, 0.0), mask
    )


def dispatch_soft(
    routing: SoftRouting, tokens: Float[Array, "G T D"], experts: ExpertMlp
) -> Float[Array, "G T D"]:
    """Mix tokens into slots, run the experts, mix slots into tokens.

    The experts compute in the type of `tokens`; both mixtures are summed in float32.

    Returns:
        (G, T, D) float32; zero at masked tokens.

    Raises:
        ValueError: the tokens' (G, T) is not the routing's.
    """
    groups, length, num_experts, capacity = routing.dispatch.shape
    if tokens.shape[:2] != (groups, length):
        raise ValueError(f"tokens have (G, T) = {tokens.shape[:2]}, the routing {groups, length}")
    clean = jnp.where(routing.mask[..., None], tokens, 0)
    mixed = _mix(routing.dispatch.astype(tokens.dtype), clean)
    rows = mixed.astype(tokens.dtype).reshape(num_experts, groups * capacity, -1)
    out = experts.batched(rows).reshape(num_experts, groups, capacity, -1)
    return jnp.einsum("gtec,egcd->gtd", routing.combine, out.astype(jnp.float32))


def _mix(share: Float[Array, "G T E C"], tokens: Float[Array, "G T D"]) -> Float[Array, "E G C D"]:
    """The mean of the tokens in each slot, from products in their type, summed in float32."""

    def product(share, tokens):
        return jnp.einsum("gtec,gtd->egcd", share, tokens, preferred_element_type=jnp.float32)

    def widened(share, tokens):
        return product(share.astype(jnp.float32), tokens.astype(jnp.float32))

    if tokens.dtype == jnp.float32:
        return product(share, tokens)
    # XLA's CPU back end has no such product of bf16 over a batch: exact in float32, too.
    return jax.lax.platform_dependent(share, tokens, cpu=widened, default=product)
