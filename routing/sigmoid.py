"""Token choice by sigmoid gates, each expert judged for itself (DeepSeek-V3, MoE-ViE)."""

from __future__ import annotations

import jax
from jaxtyping import Array, Bool, Float

from .checks import checked_inputs
from .routed import Routing
from .token_choice import Priority, choose_and_place


def route_sigmoid(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    selected: int,
    capacity: int | None,
    batch_priority: bool = True,
    priority: Priority = "max",
    renormalize: bool | None = None,
    bias: Float[Array, " E"] | None = None,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> Routing:
    """s = sigmoid(logits); the K experts of largest s + bias; gates s / (sum of the chosen s).

    The bias is that of loss-free balancing (`update_bias`): it moves the choice, never the
    weight. `probs` of the result is s over its sum.

    Args:
        logits, mask, selected, capacity, batch_priority, priority, noise, noise_std: see
            `route_top_k`.
        renormalize: None renormalises where K > 1 (with K=1 the gate would be constant).
        bias: (E,) float32 added to s for the choice; None is none.

    Raises:
        ValueError: as `route_top_k`.
    """
    clean, noisy, mask, sigma = checked_inputs(logits, mask, noise, noise_std)
    scores = jax.nn.sigmoid(noisy)
    assignment = choose_and_place(
        scores,
        mask,
        selected=selected,
        capacity=capacity,
        scores=noisy,  # from 17 on, sigmoids round to 1
        bias=bias,
        renormalize=selected > 1 if renormalize is None else renormalize,
        log_gates=jax.nn.log_sigmoid(noisy),
        batch_priority=batch_priority,
        priority=priority,
    )
    probs = _shares(clean)
    gates = _shares(noisy) if sigma > 0 else probs
    biased = bias is not None
    return Routing(assignment, clean, noisy, probs, gates, mask, sigma, selected, biased)


def _shares(logits: Float[Array, "G T E"]) -> Float[Array, "G T E"]:
    """sigmoid / its sum over the experts, also where all sigmoids underflow."""
    return jax.nn.softmax(jax.nn.log_sigmoid(logits), axis=-1)
