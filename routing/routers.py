"""The table of routers: the same arguments in, a `Routing` out.

Each router takes what concerns it; `route` says so where it is missing or meaningless. The soft
router has a type of its own and stands beside the table (`route_soft`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .checks import check_mask
from .controls import route_hash, route_random
from .expert_choice import route_expert_choice
from .routed import Routing
from .sigmoid import route_sigmoid
from .token_choice import Priority
from .top_k import route_gshard, route_switch, route_top_k

RouterName = Literal["top_k", "switch", "gshard", "sigmoid", "hash", "random", "expert_choice"]

ROUTERS: dict[str, Callable[..., Routing]] = {
    "top_k": route_top_k,
    "switch": route_switch,
    "gshard": route_gshard,
    "sigmoid": route_sigmoid,
    "hash": route_hash,
    "random": route_random,
    "expert_choice": route_expert_choice,
}

# Those that a bias can balance, and those that learn (and so have logits that matter).
BIASED = ("top_k", "sigmoid")
LEARNED = ("top_k", "switch", "gshard", "sigmoid", "expert_choice")
# Whether a token is taken depends on those after it.
NOT_CAUSAL = ("expert_choice", "soft")


def route(
    name: RouterName,
    logits: Float[Array, "G T E"],
    mask: Bool[Array, "G T"] | None = None,
    *,
    selected: int,
    capacity: int | None,
    batch_priority: bool | None = None,
    priority: Priority = "max",
    renormalize: bool | None = None,
    noise: Float[Array, "G T E"] | None = None,
    noise_std: float = 1.0,
    bias: Float[Array, " E"] | None = None,
    ids: Int[Array, "G T"] | None = None,
    key: Key[Array, "..."] | None = None,
) -> Routing:
    """Route by name.

    Args:
        name: one of `ROUTERS`.
        logits: for `hash` and `random` their shape alone counts.
        mask, capacity, noise, noise_std: see `route_top_k`.
        selected: K; must be 1 for `switch`, and means nothing to `expert_choice`.
        batch_priority: see `route_top_k`; None is the router's own way, on for `top_k` and
            `sigmoid`, off for `switch` and `gshard`. The others have an order of their own.
        priority: what it sorts by.
        renormalize: of `top_k` and `sigmoid`; None is the router's own way.
        bias: of loss-free balancing, for `top_k` and `sigmoid`.
        ids: what each token is, for `hash`.
        key: for `random`: one, or one for each group.

    Raises:
        ValueError: no such router; something that it needs is missing, or something is given
            that it cannot heed; or as the router itself.
    """
    if name not in ROUTERS:
        raise ValueError(f"router {name!r} is unknown: expected one of {sorted(ROUTERS)}")
    if bias is not None and name not in BIASED:
        raise ValueError(f"router {name!r} heeds no bias: loss-free balancing is for {BIASED}")
    if renormalize is not None and name not in BIASED:
        raise ValueError(f"router {name!r} has gates of its own: renormalize is for {BIASED}")
    if name in ("hash", "random"):
        experts = logits.shape[-1]
        if mask is not None:
            check_mask(mask, logits.shape[:2])
        if name == "hash":
            if ids is None:
                raise ValueError("router 'hash' needs ids: what each token is, int (G, T)")
            if ids.shape != logits.shape[:2]:
                raise ValueError(
                    f"ids have shape {ids.shape}, expected (G, T) = {logits.shape[:2]}"
                )
            return route_hash(ids, mask, num_experts=experts, selected=selected, capacity=capacity)
        if key is None:
            raise ValueError("router 'random' needs a key to draw from")
        full = jnp.ones(logits.shape[:2], bool) if mask is None else mask
        return route_random(key, full, experts, selected=selected, capacity=capacity)
    noisy = {"noise": noise, "noise_std": noise_std}
    if name == "expert_choice":
        return route_expert_choice(logits, mask, capacity=capacity, **noisy)
    ordered: dict[str, Any] = {"priority": priority}
    if batch_priority is not None:
        ordered["batch_priority"] = batch_priority
    if name == "switch":
        if selected != 1:
            raise ValueError(f"selected={selected}: Switch routing is K=1; `gshard` takes more")
        return route_switch(logits, mask, capacity=capacity, **ordered, **noisy)
    if name == "gshard":
        return route_gshard(logits, mask, selected=selected, capacity=capacity, **ordered, **noisy)
    if renormalize is not None:
        ordered["renormalize"] = renormalize
    return ROUTERS[name](
        logits, mask, selected=selected, capacity=capacity, bias=bias, **ordered, **noisy
    )
