"""What a routing layer did, in numbers for people: made from its merged `RoutingSums`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .leaf import Leaf
from .losses import global_entropy, local_entropy
from .sums import RoutingSums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutingStatistics:
    """Statistics of one layer; shares and means over an empty modality are 0.

    Attributes:
        success: (M,), share of tokens with at least one slot, after drops.
        local_entropy: (M,), mean H(p_i), nats, clean gates.
        global_entropy: (M,), H(mean p), nats, clean gates.
        effective_experts: (M,), exp of the global entropy: experts softly in use.
        top_gate: (M,), mean largest clean gate.
        load: (E,), each expert's share of the wanted pairs, before drops.
        kept_load: (E,), each expert's share of the kept pairs, after drops.
        max_load: (), largest load over its even share 1/E; 1 is perfect balance.
        dead: (), experts whose load is under 0.1/E.
        share: (M, E), of each expert's wanted pairs, the part from each modality, before
            drops; columns of an idle expert are 0.
        drop: (), share of the wanted pairs that were dropped.
    """

    success: Leaf
    local_entropy: Leaf
    global_entropy: Leaf
    effective_experts: Leaf
    top_gate: Leaf
    load: Leaf
    kept_load: Leaf
    max_load: Leaf
    dead: Leaf
    share: Leaf
    drop: Leaf


def routing_statistics(sums: RoutingSums) -> RoutingStatistics:
    """Derive the statistics of merged sums."""
    experts = sums.probs.shape[1]
    tokens = jnp.maximum(sums.tokens, 1.0)
    wanted, kept = jnp.sum(sums.assigned, axis=0), jnp.sum(sums.kept, axis=0)
    load = wanted / jnp.maximum(jnp.sum(wanted), 1.0)
    uses = global_entropy(sums)
    return RoutingStatistics(
        success=sums.processed / tokens,
        local_entropy=local_entropy(sums),
        global_entropy=uses,
        effective_experts=jnp.where(sums.tokens > 0, jnp.exp(uses), 0.0),
        top_gate=sums.top_gate / tokens,
        load=load,
        kept_load=kept / jnp.maximum(jnp.sum(kept), 1.0),
        max_load=jnp.max(load) * experts,
        dead=jnp.sum((load < 0.1 / experts).astype(jnp.float32)),
        share=sums.assigned / jnp.maximum(wanted, 1.0),
        drop=1.0 - jnp.sum(kept) / jnp.maximum(jnp.sum(wanted), 1.0),
    )


def flat_statistics(sums: RoutingSums, modalities: Sequence[str]) -> dict[str, Float[Array, ""]]:
    """The scalar statistics under flat names, for a metrics log.

    Keys: `success/NAME`, `local_entropy/NAME`, `global_entropy/NAME`, `top_gate/NAME` for each
    modality, then `max_load`, `dead`, `drop`.

    Raises:
        ValueError: not as many names as modalities.
    """
    if len(modalities) != sums.tokens.shape[0]:
        raise ValueError(f"{len(modalities)} names for {sums.tokens.shape[0]} modalities")
    derived = routing_statistics(sums)
    flat: dict[str, Float[Array, ""]] = {}
    for key in ("success", "local_entropy", "global_entropy", "top_gate"):
        values = getattr(derived, key)
        flat |= {f"{key}/{name}": values[m] for m, name in enumerate(modalities)}
    return flat | {"max_load": derived.max_load, "dead": derived.dead, "drop": derived.drop}
