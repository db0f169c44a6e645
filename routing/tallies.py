"""From the pairs of an assignment to its tokens: who wanted and got which expert."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .assignment import Assignment
from .routed import Routing
from .token_choice import choose


def per_expert(pairs: Assignment, which: Bool[Array, "G P"]) -> Float[Array, "G T E"]:
    """How many of these pairs each token has with each expert: 0 or 1."""
    experts, tokens = pairs.num_experts, pairs.num_tokens
    groups = which.shape[0]
    if pairs.layout == "token":
        chosen = which[..., None] & (pairs.expert[..., None] == jnp.arange(experts))
        chosen = chosen.reshape(groups, tokens, -1, experts)
        return jnp.sum(chosen, axis=2, dtype=jnp.float32)
    rows = jnp.arange(groups)[:, None]
    table = jnp.zeros((groups, tokens, experts), jnp.float32)
    return table.at[rows, pairs.token, pairs.expert].add(which.astype(jnp.float32))


def per_token(pairs: Assignment, values: Float[Array, "G P"]) -> Float[Array, "G T"]:
    """The sum of the values of each token's pairs."""
    groups, tokens = values.shape[0], pairs.num_tokens
    if pairs.layout == "token":
        return jnp.sum(values.reshape(groups, tokens, -1), axis=-1)
    rows = jnp.arange(groups)[:, None]
    return jnp.zeros((groups, tokens), values.dtype).at[rows, pairs.token].add(values)


def first_choices(routing: Routing) -> Bool[Array, "G T E"]:
    """The expert of the largest noisy gate of each token, one-hot; equal gates: the lower one."""
    experts = routing.assignment.num_experts
    if _in_order(routing):  # reading what the router found is cheaper than looking again
        first = routing.assignment.expert.reshape(*routing.mask.shape, -1)[..., 0]
    else:
        first = jnp.argmax(routing.gates, axis=-1)
    return first[..., None] == jnp.arange(experts)


def last_logit(routing: Routing) -> Float[Array, "G T 1"]:
    """The K-th largest noisy logit of each token, with its gradient.

    Not that of the K-th expert chosen: a bias may have chosen it, or gates that are equal
    (all 0, or all 1 of a sigmoid) where logits are not.
    """
    noisy, experts = routing.noisy_logits, routing.assignment.num_experts
    last = choose(lax.stop_gradient(noisy), routing.selected)[..., -1]
    mine = last[..., None] == jnp.arange(experts)
    # A masked sum rather than a gather: its transpose is again element-wise, not a scatter.
    return jnp.sum(jnp.where(mine, noisy, 0.0), axis=-1, keepdims=True)


def top_two(probs: Float[Array, "G T E"]) -> tuple[Float[Array, "G T"], Float[Array, "G T"]]:
    """The largest probability of each token, and how far the second one is below it.

    With one expert the second counts as 0.
    """
    top = jnp.max(probs, axis=-1, keepdims=True)
    at_top = probs == top
    second = jnp.max(jnp.where(at_top, 0.0, probs), axis=-1)
    tied = jnp.sum(at_top, axis=-1) > 1
    top = top[..., 0]
    return top, jnp.where(tied, 0.0, top - second)


def by_modality(columns: dict[str, Array], member: Array) -> dict[str, Float[Array, "M ..."]]:
    """The sum of every column, (G, T) or (G, T, E), over the members of each modality."""
    wide = [x if x.ndim == 3 else x[..., None] for x in columns.values()]
    table = jnp.einsum(
        "gtm,gtf->mf",
        member.astype(jnp.float32),
        jnp.concatenate(wide, axis=-1),
        precision="highest",  # accelerators would round the columns to fewer bits
    )
    total, start = {}, 0
    for (name, column), x in zip(columns.items(), wide, strict=True):
        part = table[:, start : start + x.shape[-1]]
        total[name] = part if column.ndim == 3 else part[:, 0]
        start += x.shape[-1]
    return total


def _in_order(routing: Routing) -> bool:
    return routing.assignment.layout == "token" and not routing.biased
