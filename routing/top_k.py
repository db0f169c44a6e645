"""Token choice by softmax gates: V-MoE's noisy top-k, Switch and GShard (docs/routing.md)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from .checks import checked_inputs
from .routed import Routing
from .token_choice import Priority, choose_and_place


def router_noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal float32 noise for the routers, which scale it."""
    return jax.random.normal(key, shape, jnp.float32)


def route_top_k(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    selected: int,
    capacity: int | None,
    batch_priority: bool = True,
    priority: Priority = "max",
    renormalize: bool = False,
    bias: Float[Array, " E"] | None = None,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> Routing:
    """Noisy top-k token choice (V-MoE, arXiv 2106.05974).

    g(x) = TOP_K(softmax(logits + noise_std/E * noise)) (section 2.1): the softmax is over all
    experts and taken *before* the choice, so that with K=1 the gate still depends on
    the logits; the chosen gates are not renormalised. Equal gates go to the lower
    expert. Queues are filled as `queue_ranks` says; with batch priority over all
    tokens of the group whatever their modality (LIMoE, arXiv 2206.02770, section 2.2). A token
    past an expert's capacity is dropped there.

    Switch (arXiv 2101.03961) is this with K=1, no noise and `batch_priority=False`; GShard
    (arXiv 2006.16668) with K=2 and `renormalize=True`: see `route_switch`, `route_gshard`.

    Masked tokens are never routed and take no slot; nothing returned depends on what their
    logits or noise hold, be it NaN. A NaN in a routed token's logits makes that token's gates
    NaN and no other's; under `checkify` it is an error that names the place.

    Args:
        logits: of any float type; computed in float32.
        mask: true for tokens to route; None routes all.
        selected: K.
        capacity: C, slots per expert and group; None keeps every pair (dropless).
        batch_priority: serve tokens by descending gate rather than in token order.
        priority: what batch priority sorts by, `max` (the largest gate) or `sum` (of a token's K
            gates), before any renormalisation. With K=E all sums of softmax gates
            are 1 and rounding would decide: take `max` there.
        renormalize: divide a token's K gates by their sum; needs K > 1.
        bias: added to the gates for the choice alone (loss-free balancing, `update_bias`).
        noise: standard normal; None routes deterministically.
        noise_std: its standard deviation in units of 1/E.

    Raises:
        ValueError: K is not in 1..E, C is below one, noise_std is negative, an axis is
            empty, a shape differs, the priority is unknown, or K=1 is renormalised.
    """
    clean, noisy, mask, sigma = checked_inputs(logits, mask, noise, noise_std)
    probs = jax.nn.softmax(clean, axis=-1)
    gates = jax.nn.softmax(noisy, axis=-1) if sigma > 0 else probs
    assignment = choose_and_place(
        gates,
        mask,
        selected=selected,
        capacity=capacity,
        bias=bias,
        renormalize=renormalize,
        batch_priority=batch_priority,
        priority=priority,
    )
    biased = bias is not None
    return Routing(assignment, clean, noisy, probs, gates, mask, sigma, selected, biased)


def route_switch(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    capacity: int | None,
    batch_priority: bool = False,
    priority: Priority = "max",
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> Routing:
    """Switch routing (arXiv 2101.03961, section 2.1): the best expert alone, in token order.

    The gate is the expert's probability, so that the router learns from the task. Batch
    priority, which is not Switch's, may be had.

    Raises:
        ValueError: as `route_top_k`.
    """
    return route_top_k(
        logits,
        mask,
        selected=1,
        capacity=capacity,
        batch_priority=batch_priority,
        priority=priority,
        noise=noise,
        noise_std=noise_std,
    )


def route_gshard(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    selected: int = 2,
    capacity: int | None,
    batch_priority: bool = False,
    priority: Priority = "max",
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> Routing:
    """GShard routing (arXiv 2006.16668, algorithm 1): K = 2 in token order, gates renormalised.

    All second choices are dispatched; the algorithm's random omission of weak ones is not
    made. With K=1 there is nothing to renormalise, and it is Switch routing. Batch priority, which
    is not GShard's, may be had; it goes by the gates before they are renormalised.

    Raises:
        ValueError: as `route_top_k`.
    """
    return route_top_k(
        logits,
        mask,
        selected=selected,
        capacity=capacity,
        batch_priority=batch_priority,
        priority=priority,
        renormalize=selected > 1,
        noise=noise,
        noise_std=noise_std,
    )
