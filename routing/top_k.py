"""Token choice: every token asks for its K best experts (V-MoE, arXiv 2106.05974)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from .assignment import Assignment
from .capacity import check_selected
from .leaf import Leaf
from .placement import queue_ranks


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TopKRouting:
    """What token choice decided, and what its losses and statistics are made of.

    Attributes:
        assignment: for the dispatcher.
        logits: (G, T, E) float32, clean router logits; zero at masked tokens.
        noisy_logits: (G, T, E) float32, what the choice was made on; the same when
            nothing was added.
        mask: (G, T) bool, the tokens that are routed.
        sigma: standard deviation of the noise; 0 when there was none.
        selected: K.
    """

    assignment: Assignment
    logits: Leaf
    noisy_logits: Leaf
    mask: Leaf
    sigma: float = dataclasses.field(metadata={"static": True})
    selected: int = dataclasses.field(metadata={"static": True})


def router_noise(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal float32 noise for `route_top_k`, which scales it."""
    return jax.random.normal(key, shape, jnp.float32)


def route_top_k(
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    selected: int,
    capacity: int | None,
    batch_priority: bool = True,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
) -> TopKRouting:
    """Noisy top-k token choice.

    g(x) = TOP_K(softmax(logits + noise_std/E * noise)) (section 2.1): the softmax is over all
    experts and taken *before* the choice, so that with K=1 the gate still depends on
    the logits; the chosen gates are not renormalised. Equal gates go to the lower
    expert. Queues are filled as `queue_ranks` says; with batch priority the
    priority is the largest gate, over all tokens of the group whatever their modality (LIMoE,
    arXiv 2206.02770, section 2.2). A token past an expert's capacity is dropped there.

    Masked tokens are never routed and take no slot; nothing returned depends on what their
    logits or noise hold, be it NaN.

    Args:
        logits: of any float type; computed in float32.
        mask: true for tokens to route; None routes all.
        selected: K.
        capacity: C, slots per expert and group; None keeps every pair (dropless).
        batch_priority: serve tokens by descending gate rather than in token order.
        noise: standard normal; None routes deterministically.
        noise_std: its standard deviation in units of 1/E.

    Raises:
        ValueError: K is not in 1..E, C is below one, noise_std is negative, or a shape differs.
    """
    groups, tokens, experts = logits.shape
    check_selected(selected, experts)
    if capacity is not None and capacity < 1:
        raise ValueError(f"capacity={capacity}: at least one slot per expert, or None for all")
    if noise_std < 0:
        raise ValueError(f"noise_std={noise_std}: a standard deviation is not negative")
    if mask is None:
        mask = jnp.ones((groups, tokens), bool)
    if mask.shape != (groups, tokens):
        raise ValueError(f"mask has shape {mask.shape}, expected (G, T) = {(groups, tokens)}")
    if noise is not None and noise.shape != logits.shape:
        raise ValueError(f"noise has shape {noise.shape}, expected that of logits {logits.shape}")
    sigma = 0.0 if noise is None else noise_std / experts
    clean = jnp.where(mask[..., None], logits.astype(jnp.float32), 0.0)
    noisy = clean
    if noise is not None and sigma > 0:
        noisy = clean + jnp.where(mask[..., None], sigma * noise.astype(jnp.float32), 0.0)
    gates = jax.nn.softmax(noisy, axis=-1)
    chosen = choose(lax.stop_gradient(gates), selected)
    # A masked sum rather than a gather: its transpose is again element-wise, not a scatter.
    picked = chosen[..., None] == jnp.arange(experts, dtype=jnp.int32)
    weight = jnp.sum(jnp.where(picked, gates[:, :, None, :], 0.0), axis=-1)
    assignment = place(
        chosen, weight, mask, experts, capacity, weight[..., 0] if batch_priority else None
    )
    return TopKRouting(assignment, clean, noisy, mask, sigma, selected)


def choose(scores: Float[Array, "G T E"], selected: int) -> Int[Array, "G T K"]:
    """The K experts of highest score, best first; equal scores go to the lower expert."""
    if selected == 1:  # much cheaper than a sort of every row where E is large
        return jnp.argmax(scores, axis=-1, keepdims=True).astype(jnp.int32)
    return lax.top_k(scores, selected)[1].astype(jnp.int32)


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


def route_random(
    key: Key[Array, ""],
    mask: Bool[Array, "G T"],
    num_experts: int,
    *,
    selected: int,
    capacity: int | None,
) -> Assignment:
    """The control: K different experts drawn uniformly, in a random order of service.

    Its success rate at some capacity is what chance alone gives; a learned router
    should do better. Gates are uniform, 1/K.

    Raises:
        ValueError: as `route_top_k`.
    """
    scores = jax.random.uniform(key, (*mask.shape, num_experts))
    drawn = route_top_k(scores, mask, selected=selected, capacity=capacity).assignment
    return dataclasses.replace(drawn, weight=jnp.where(drawn.routed, 1.0 / selected, 0.0))
