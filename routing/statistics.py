"""What a routing layer did, in numbers for people: made from its merged `RoutingSums`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .balance import squared_cv
from .information import information_bias, mutual_information, normalised_information
from .leaf import Leaf
from .losses import global_entropy, local_entropy, switch_loss, z_loss
from .sums import RoutingSums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutingStatistics:
    """Statistics of one layer; shares and means over an empty modality are 0.

    Gates are clean unless it says noisy; `kept_` is after drops, all other counts before;
    entropies and informations are in nats. docs/losses.md has the formulas.

    Attributes:
        tokens: (M,), valid tokens.
        success: (M,), share of tokens with at least one slot, after drops.
        drop_by_modality: (M,), share of the wanted pairs that were dropped.
        local_entropy: (M,), mean H(p_i).
        local_entropy_of_most: (M,), the same over its maximum log E; 0 where E = 1.
        global_entropy: (M,), H(mean p).
        effective_experts: (M,), exp of the global entropy: experts softly in use.
        token_information: (M,), I(expert; token) = global less local entropy.
        top_gate: (M,), mean largest gate.
        gap: (M,), mean of the largest less the second largest gate.
        confidence: (M,), mean combine weight of a kept pair, noisy.
        share: (M, E), of each expert's wanted pairs, the part from each modality; columns of
            an idle expert are 0.
        kept_share: (M, E), the same of kept pairs.
        even_share: (M, E), `share` were all modalities of the same number of tokens: each
            modality's pairs over its tokens first.
        importance: (E,), mean gate P_e; sums to 1.
        load: (E,), each expert's share of the wanted pairs.
        kept_load: (E,), each expert's share of the kept pairs, after drops.
        importance_cv2: (), CV^2 of the importance, over everything merged.
        load_cv2: (), CV^2 of the load.
        balance: (), `switch_loss` over everything merged, noisy gates; K at perfect balance.
        max_load: (), largest load over its even share 1/E; 1 is perfect balance.
        max_vio: (), `max_load` less 1: DeepSeek's largest violation; 0 is perfect balance.
        min_load: (), smallest load, a share (1/E is perfect balance).
        dead: (), experts whose load is under 0.1/E.
        drop: (), share of the wanted pairs that were dropped.
        left_behind: (), share of the tokens with no kept pair.
        usage: (), kept pairs over slots; 1 where dropless.
        confidence_of_all: (), `confidence` over all modalities.
        z: (), mean squared logsumexp of the logits.
        modality_information, kept_modality_information: (), I(expert; modality) of pairs,
            plug-in, wanted and kept.
        modality_nmi, kept_modality_nmi: (), over sqrt(H(expert) H(modality)).
        modality_information_bias, kept_modality_information_bias: (), (E-1)(M-1)/(2N), by about
            which the plug-in is too large, N pairs taken as independent.
    """

    tokens: Leaf
    success: Leaf
    drop_by_modality: Leaf
    local_entropy: Leaf
    local_entropy_of_most: Leaf
    global_entropy: Leaf
    effective_experts: Leaf
    token_information: Leaf
    top_gate: Leaf
    gap: Leaf
    confidence: Leaf
    share: Leaf
    kept_share: Leaf
    even_share: Leaf
    importance: Leaf
    load: Leaf
    kept_load: Leaf
    importance_cv2: Leaf
    load_cv2: Leaf
    balance: Leaf
    max_load: Leaf
    max_vio: Leaf
    min_load: Leaf
    dead: Leaf
    drop: Leaf
    left_behind: Leaf
    usage: Leaf
    confidence_of_all: Leaf
    z: Leaf
    modality_information: Leaf
    kept_modality_information: Leaf
    modality_nmi: Leaf
    kept_modality_nmi: Leaf
    modality_information_bias: Leaf
    kept_modality_information_bias: Leaf


def routing_statistics(sums: RoutingSums) -> RoutingStatistics:
    """Derive the statistics of merged sums."""
    experts = sums.probs.shape[1]
    tokens, all_tokens = jnp.maximum(sums.tokens, 1.0), jnp.maximum(jnp.sum(sums.tokens), 1.0)
    wanted, kept = jnp.sum(sums.assigned, axis=0), jnp.sum(sums.kept, axis=0)
    all_wanted, all_kept = jnp.sum(wanted), jnp.sum(kept)
    wanted_m, kept_m = jnp.sum(sums.assigned, axis=1), jnp.sum(sums.kept, axis=1)
    load = wanted / jnp.maximum(all_wanted, 1.0)
    importance = jnp.sum(sums.probs, axis=0)
    decided, uses = local_entropy(sums), global_entropy(sums)
    per_token = sums.assigned / tokens[:, None]
    all_per_token = jnp.sum(per_token, axis=0)
    max_load = jnp.max(load) * experts
    return RoutingStatistics(
        tokens=sums.tokens,
        success=sums.processed / tokens,
        drop_by_modality=_lost(kept_m, wanted_m),
        local_entropy=decided,
        local_entropy_of_most=decided / (math.log(experts) if experts > 1 else 1.0),
        global_entropy=uses,
        effective_experts=jnp.where(sums.tokens > 0, jnp.exp(uses), 0.0),
        token_information=uses - decided,
        top_gate=sums.top_gate / tokens,
        gap=sums.gap / tokens,
        confidence=sums.weight / jnp.maximum(kept_m, 1.0),
        share=sums.assigned / jnp.maximum(wanted, 1.0),
        kept_share=sums.kept / jnp.maximum(kept, 1.0),
        even_share=per_token / jnp.where(all_per_token > 0, all_per_token, 1.0),
        importance=importance / all_tokens,
        load=load,
        kept_load=kept / jnp.maximum(all_kept, 1.0),
        importance_cv2=squared_cv(importance),
        load_cv2=squared_cv(wanted),
        balance=switch_loss(sums, "global"),
        max_load=max_load,
        max_vio=jnp.where(all_wanted > 0, max_load - 1.0, 0.0),
        min_load=jnp.min(load),
        dead=jnp.sum((load < 0.1 / experts).astype(jnp.float32)),
        drop=_lost(all_kept, all_wanted),
        left_behind=_lost(jnp.sum(sums.processed), jnp.sum(sums.tokens)),
        usage=all_kept / jnp.maximum(sums.slots, 1.0),
        confidence_of_all=jnp.sum(sums.weight) / jnp.maximum(all_kept, 1.0),
        z=z_loss(sums),
        modality_information=mutual_information(sums.assigned),
        kept_modality_information=mutual_information(sums.kept),
        modality_nmi=normalised_information(sums.assigned),
        kept_modality_nmi=normalised_information(sums.kept),
        modality_information_bias=information_bias(sums.assigned),
        kept_modality_information_bias=information_bias(sums.kept),
    )


# By modality, and one number for the layer: what a metrics log gets.
FLAT_BY_MODALITY = ("success", "local_entropy", "global_entropy", "top_gate", "confidence")
FLAT = ("max_load", "dead", "drop", "max_vio", "left_behind", "usage", "modality_information")


def flat_statistics(sums: RoutingSums, modalities: Sequence[str]) -> dict[str, Float[Array, ""]]:
    """The scalar statistics under flat names, for a metrics log.

    Keys: `success/NAME`, `local_entropy/NAME`, `global_entropy/NAME`, `top_gate/NAME`,
    `confidence/NAME` for each modality, then `max_load`, `dead`, `drop`, `max_vio`,
    `left_behind`, `usage`, `modality_information`.

    Raises:
        ValueError: not as many names as modalities.
    """
    if len(modalities) != sums.tokens.shape[0]:
        raise ValueError(f"{len(modalities)} names for {sums.tokens.shape[0]} modalities")
    derived = routing_statistics(sums)
    flat: dict[str, Float[Array, ""]] = {}
    for key in FLAT_BY_MODALITY:
        values = getattr(derived, key)
        flat |= {f"{key}/{name}": values[m] for m, name in enumerate(modalities)}
    return flat | {key: getattr(derived, key) for key in FLAT}


def _lost(kept: Array, wanted: Array) -> Array:
    """1 - kept / wanted; 0 where nothing was wanted."""
    return jnp.where(wanted > 0, 1.0 - kept / jnp.maximum(wanted, 1.0), 0.0)
