"""The auxiliary losses of a routing layer, each made from its `RoutingSums`.

docs/losses.md has the formulas, sources and signs. All are to be minimised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from .balance import entropy, squared_cv
from .sums import RoutingSums

Scope = Literal["group", "global"]


def importance_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """CV^2 over experts of the summed clean gates (V-MoE appendix A).

    Args:
        scope: `group`: CV^2 of each group, mean over groups with a valid token (each counts
            the same, as in V-MoE's code); `global`: CV^2 of the sums over everything merged.

    Raises:
        ValueError: unknown scope.
    """
    if _check_scope(scope) == "group":
        return sums.importance / jnp.maximum(sums.groups, 1.0)
    return squared_cv(jnp.sum(sums.probs, axis=0))


def load_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """CV^2 over experts of the smooth load (V-MoE appendix A); scopes as `importance_loss`.

    Raises:
        ValueError: the router was deterministic, where the smooth load is undefined; unknown scope.
    """
    if not sums.stochastic:
        raise ValueError(
            "the load loss needs router noise, and there was none: route with noise "
            "(noise_std above 0, train=True), or do not ask for the load loss"
        )
    if _check_scope(scope) == "group":
        return sums.load / jnp.maximum(sums.groups, 1.0)
    return squared_cv(sums.load_e)


def z_loss(sums: RoutingSums) -> Float[Array, ""]:
    """Mean over tokens of logsumexp(logits)^2, clean (ST-MoE, arXiv 2202.08906, equation 5)."""
    return sums.z / jnp.maximum(jnp.sum(sums.tokens), 1.0)


def local_entropy(sums: RoutingSums) -> Float[Array, " M"]:
    """Mean H(p_i) over the tokens of each modality, in nats; 0 for an empty modality.

    LIMoE's local entropy loss (arXiv 2206.02770, section 2.2): minimising it makes
    each token's routing confident.
    """
    return sums.entropy / jnp.maximum(sums.tokens, 1.0)


def mean_probs(sums: RoutingSums) -> Float[Array, "M E"]:
    """Mean clean router distribution of each modality; zeros for an empty one."""
    return sums.probs / jnp.maximum(sums.tokens, 1.0)[:, None]


def global_entropy(sums: RoutingSums) -> Float[Array, " M"]:
    """H of the mean distribution of each modality, in nats; 0 for an empty modality.

    Not yet a loss: see `global_entropy_loss` for sign and threshold.
    """
    return entropy(mean_probs(sums))


def global_entropy_loss(sums: RoutingSums, modality: int, experts: float) -> Float[Array, ""]:
    """max(0, tau - H(mean p)) of one modality, tau = log(experts) (LIMoE section 2.2).

    Positive while the modality's tokens use, softly, fewer than `experts` experts, then 0
    with gradient 0; so `experts` is a soft minimum. An empty modality gives 0.

    Args:
        modality: its number, 0..M-1.
        experts: the exp of the paper's tau; above 1, at most E.

    Raises:
        ValueError: `experts` is out of range.
    """
    number = sums.probs.shape[1]
    if not 1 < experts <= number:
        raise ValueError(
            f"threshold of {experts} experts, with E={number}: it is the soft minimum of experts "
            "that a modality uses, above 1 and at most E"
        )
    gap = jnp.log(experts) - global_entropy(sums)[modality]
    return jnp.where(sums.tokens[modality] > 0, jnp.maximum(gap, 0.0), 0.0)


def auxiliary_losses(
    sums: RoutingSums,
    modalities: Sequence[str],
    *,
    importance: bool = False,
    load: bool = False,
    z: bool = False,
    local: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    scope: Scope = "group",
) -> dict[str, Float[Array, ""]]:
    """The losses that are asked for, by name, unweighted; whoever adds them up names each.

    Args:
        modalities: the M names, in the order of their numbers.
        importance, load, z: whether to return these.
        local: modalities whose local entropy is returned, as `local/NAME`.
        thresholds: soft minimum of experts per modality, for `global/NAME`; 0 is off.
        scope: of importance and load. Entropies are always over all merged tokens.

    Returns:
        float32 scalars, in the order importance, load, z, local, global.

    Raises:
        ValueError: an unknown modality, or as the single losses.
    """
    thresholds = dict(thresholds or {})
    for name in [*local, *thresholds]:
        if name not in modalities:
            raise ValueError(f"modality {name!r} is unknown: expected one of {list(modalities)}")
    if len(modalities) != sums.tokens.shape[0]:
        raise ValueError(f"{len(modalities)} names for {sums.tokens.shape[0]} modalities")
    terms: dict[str, Float[Array, ""]] = {}
    if importance:
        terms["importance"] = importance_loss(sums, scope)
    if load:
        terms["load"] = load_loss(sums, scope)
    if z:
        terms["z"] = z_loss(sums)
    confident = local_entropy(sums)
    for name in local:
        terms[f"local/{name}"] = confident[modalities.index(name)]
    for name, experts in thresholds.items():
        if experts:
            number = modalities.index(name)
            terms[f"global/{name}"] = global_entropy_loss(sums, number, experts)
    return terms


def _check_scope(scope: Scope) -> Scope:
    if scope not in ("group", "global"):
        raise ValueError(f"scope={scope!r}: expected 'group' or 'global'")
    return scope
