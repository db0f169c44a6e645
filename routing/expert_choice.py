"""Expert choice: every expert takes its C best tokens (Zhou et al., arXiv 2202.09368)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .assignment import Assignment
from .checks import check_capacity, checked_inputs
from .routed import Routing


def route_expert_choice(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    capacity: int | None,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> Routing:
    """S = softmax over experts; each expert takes the C tokens of largest S (section 3.2).

    Perfect balance by construction: a token may be taken by many experts or by none. Slots
    are filled in descending gate; equal gates go to the lower token. Never for causal
    models: whether a token is taken depends on those after it.

    Masked tokens are never taken; an expert that finds fewer tokens than C leaves slots
    free (pairs that are not `routed`). A token whose gates are NaN is taken last.

    Args:
        logits, mask, noise, noise_std: see `route_top_k`.
        capacity: C, tokens per expert and group: T*K*factor/E of `expert_capacity`, where the
            paper's c is K*factor.

    Returns:
        A Routing whose assignment has the layout `expert`, and whose `selected` is 0.

    Raises:
        ValueError: no capacity, or below one; or as `route_top_k`.
    """
    if capacity is None:
        raise ValueError(
            "expert choice has no dropless form: an expert takes C tokens. Give a capacity "
            "(`expert_capacity`), or use a token-choice router"
        )
    check_capacity(capacity)
    clean, noisy, mask, sigma = checked_inputs(logits, mask, noise, noise_std)
    groups, tokens, experts = clean.shape
    probs = jax.nn.softmax(clean, axis=-1)
    gates = jax.nn.softmax(noisy, axis=-1) if sigma > 0 else probs
    scores = lax.stop_gradient(gates)
    scores = jnp.where(jnp.isnan(scores), -1.0, scores)
    scores = jnp.where(mask[..., None], scores, -2.0).swapaxes(1, 2)
    taken = min(capacity, tokens)
    best, token = lax.top_k(scores, taken)
    token = token.astype(jnp.int32)
    weight = jnp.take_along_axis(gates.swapaxes(1, 2), token, axis=2)
    routed = best > -2.0
    spare = ((0, 0), (0, 0), (0, capacity - taken))  # slots beyond T stay free

    def flat(x: Array) -> Array:
        return jnp.pad(x, spare).reshape(groups, experts * capacity)

    numbers = jnp.arange(experts * capacity, dtype=jnp.int32)
    routed = flat(routed)
    assignment = Assignment(
        token=jnp.where(routed, flat(token), 0),
        expert=jnp.broadcast_to(numbers // capacity, routed.shape),
        slot=jnp.broadcast_to(numbers % capacity, routed.shape),
        weight=jnp.where(routed, flat(weight), 0.0),
        routed=routed,
        kept=routed,
        num_tokens=tokens,
        num_experts=experts,
        capacity=capacity,
        layout="expert",
    )
    return Routing(assignment, clean, noisy, probs, gates, mask, sigma, 0)
