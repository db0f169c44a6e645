"""What all token-choice routers share: the choice, the order of service, the assignment."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .assignment import Assignment
from .capacity import check_selected
from .checks import check_capacity
from .placement import queue_ranks

Priority = Literal["max", "sum"]

# Of gates below this, float32 loses some beside which others are not yet negligible.
_TINY = 1e-30


def choose_and_place(
    gates: Float[Array, "G T E"],
    mask: Bool[Array, "G T"],
    *,
    selected: int,
    capacity: int | None,
    scores: Float[Array, "G T E"] | None = None,
    bias: Float[Array, " E"] | None = None,
    renormalize: bool = False,
    log_gates: Float[Array, "G T E"] | None = None,
    batch_priority: bool = True,
    priority: Priority = "max",
) -> Assignment:
    """The K best experts of each token, weighed by their gates.

    Args:
        gates: scores that are comparable between experts, with gradients.
        mask: tokens to route.
        selected: K.
        capacity: C; None is dropless.
        scores: what the choice goes by instead, in the same order; tells apart what rounds to
            equal gates. Not heeded where there is a bias.
        bias: added to the gates for the choice alone; weights and priority never see it.
        renormalize: divide a token's chosen gates by their sum.
        log_gates: logarithms of the gates, up to a constant per token, by which chosen gates are
            renormalised that are all too small to be told apart; without them these weigh nothing.
        batch_priority, priority: see `route_top_k`.

    Raises:
        ValueError: K is not in 1..E, C is below one, a bias of another shape, an unknown
            priority, or renormalised gates with K=1.
    """
    experts = gates.shape[-1]
    check_selected(selected, experts)
    check_capacity(capacity)
    if renormalize and selected == 1:
        raise ValueError(
            "renormalize=True with K=1 makes every gate 1, so that the router learns nothing from "
            "the task: leave the gates as they are, or choose more experts"
        )
    scores = lax.stop_gradient(gates if scores is None or bias is not None else scores)
    if bias is not None:
        if bias.shape != (experts,):
            raise ValueError(f"bias has shape {bias.shape}, expected (E,) = {(experts,)}")
        scores = scores + lax.stop_gradient(bias.astype(jnp.float32))
    chosen = choose(scores, selected)
    # A masked sum rather than a gather: its transpose is again element-wise, not a scatter.
    picked = chosen[..., None] == jnp.arange(experts, dtype=jnp.int32)
    weight = jnp.sum(jnp.where(picked, gates[:, :, None, :], 0.0), axis=-1)
    first = serving_order(weight, priority) if batch_priority else None
    if renormalize:
        # By the largest first, a constant that cancels: the gradient has the square of the
        # total below it, and that of tiny sigmoids underflows.
        largest = lax.stop_gradient(jnp.max(weight, axis=-1, keepdims=True))
        weight = weight / jnp.where(largest > 0, largest, 1.0)
        total = jnp.sum(weight, axis=-1, keepdims=True)
        weight = weight / jnp.where(total > 0, total, 1.0)
        if log_gates is not None:
            logs = jnp.sum(jnp.where(picked, log_gates[:, :, None, :], 0.0), axis=-1)
            weight = jnp.where(largest < _TINY, jax.nn.softmax(logs, axis=-1), weight)
    return place(chosen, weight, mask, experts, capacity, first)


def serving_order(weight: Float[Array, "G T K"], priority: Priority) -> Float[Array, "G T"]:
    """The score that batch priority sorts by: the largest chosen gate, or their sum.

    A NaN is served last: it must not displace tokens that are sound.

    Raises:
        ValueError: unknown priority.
    """
    if priority == "max":
        score = jnp.max(weight, axis=-1)
    elif priority == "sum":
        score = jnp.sum(weight, axis=-1)
    else:
        raise ValueError(f"priority={priority!r}: expected 'max' or 'sum' (of the chosen gates)")
    return jnp.where(jnp.isnan(score), -jnp.inf, score)


def choose(scores: Float[Array, "G T E"], selected: int) -> Int[Array, "G T K"]:
    """The K experts of highest score, best first; equal scores go to the lower expert."""
    if selected == 1:  # much cheaper than a sort of every row where E is large
        return jnp.argmax(scores, axis=-1, keepdims=True).astype(jnp.int32)
    # XLA's CPU back end has a kernel for top-k, and a sort of whole rows at six times its cost
    # where something reads only part of the answer (the load's threshold does), hence the barrier.
    return lax.optimization_barrier(lax.top_k(scores, selected)[1]).astype(jnp.int32)


def place(
    expert: Int[Array, "G T K"],
    weight: Float[Array, "G T K"],
    mask: Bool[Array, "G T"],
    num_experts: int,
    capacity: int | None,
    priority: Float[Array, "G T"] | None,
) -> Assignment:
    """The Assignment (token layout) of chosen experts and gates; see `queue_ranks` for the order.

    This is all that another token-choice router needs besides its own gates and choice.
    """
    groups, tokens, selected = expert.shape
    rank = queue_ranks(expert, mask, num_experts, priority)
    routed = jnp.broadcast_to(mask[..., None], expert.shape)
    kept = routed if capacity is None else routed & (rank < capacity)
    token = jnp.arange(tokens, dtype=jnp.int32)[None, :, None]

    def flat(x: Array) -> Array:
        return x.reshape(groups, tokens * selected)

    return Assignment(
        token=flat(jnp.broadcast_to(token, expert.shape)),
        expert=flat(jnp.where(routed, expert, 0)),
        slot=flat(jnp.where(routed, rank, 0)),
        weight=flat(jnp.where(routed, weight, 0.0)),
        routed=flat(routed),
        kept=flat(kept),
        num_tokens=tokens,
        num_experts=num_experts,
        capacity=capacity,
        layout="token",
    )
