"""The losses of a routing layer, each made from its `RoutingSums`.

docs/losses.md has the formulas, sources and signs. All are to be minimised.
"""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from .balance import PoolSums, entropy, fraction_times_gate, squared_cv
from .information import mutual_information
from .sums import RoutingSums

Scope = Literal["group", "device", "global"]
Weighting = Literal["token", "task"]


def importance_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """CV^2 over experts of the summed clean gates (V-MoE appendix A).

    Args:
        scope: over which tokens experts are compared. `group`: those of each group, then the
            mean over groups with a valid token (each counts the same, as in V-MoE's code);
            `device`: those of each device's pool of groups (`routing_sums(..., devices=n)`), then
            the mean over such pools; `global`: all that is merged.

    Raises:
        ValueError: unknown scope, or `device` where no pools were made.
    """
    pools = _pools(sums, scope)
    if pools is None:
        return squared_cv(jnp.sum(sums.probs, axis=0))
    return pools.importance / jnp.maximum(pools.count, 1.0)


def load_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """CV^2 over experts of the smooth load (V-MoE appendix A); scopes as `importance_loss`.

    Raises:
        ValueError: the router was deterministic or no token-choice router, where the smooth load is
            undefined; or as `importance_loss`.
    """
    if not sums.stochastic:
        raise ValueError(
            "the load loss needs a token-choice router with noise, and there was none: route with "
            "noise (noise_std above 0, train=True), or do not ask for the load loss"
        )
    pools = _pools(sums, scope)
    if pools is None:
        return squared_cv(sums.load_e)
    return pools.load / jnp.maximum(pools.count, 1.0)


def gshard_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """E^2 * mean_e(f_e P_e), f_e the share of tokens whose *first* choice is e (V-MoE's code).

    P_e is the mean gate, noisy where there was noise; f is before drops and has no gradient.
    1 at perfect balance whatever K, E where all is certain of one expert. Scopes as
    `importance_loss`.

    Raises:
        ValueError: as `importance_loss`.
    """
    pools = _pools(sums, scope)
    if pools is None:
        return fraction_times_gate(sums.first_e, sums.gates_e, jnp.sum(sums.tokens))
    return pools.gshard / jnp.maximum(pools.count, 1.0)


def switch_loss(sums: RoutingSums, scope: Scope = "group") -> Float[Array, ""]:
    """E * sum_e f_e P_e, f_e the share of tokens that chose e among their K (2101.03961, eq. 4).

    As `gshard_loss`, but f counts every choice and sums to K, so that perfect balance gives K. The
    two agree for K = 1. For expert choice f is what the experts took, over the tokens.

    Raises:
        ValueError: as `importance_loss`.
    """
    pools = _pools(sums, scope)
    if pools is None:
        wanted = jnp.sum(sums.assigned, axis=0)
        return fraction_times_gate(wanted, sums.gates_e, jnp.sum(sums.tokens))
    return pools.switch / jnp.maximum(pools.count, 1.0)


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


def token_information_loss(sums: RoutingSums) -> Float[Array, ""]:
    """-I(expert; token) = mean H(p_i) - H(mean p), clean, in nats, over all modalities.

    ModuleFormer's loss (arXiv 2306.04640): tokens decided, experts evenly used. At least -log E.
    """
    tokens = jnp.maximum(jnp.sum(sums.tokens), 1.0)
    local = jnp.sum(sums.entropy) / tokens
    return local - entropy(jnp.sum(sums.probs, axis=0) / tokens)


def task_information_loss(sums: RoutingSums, weighting: Weighting = "task") -> Float[Array, ""]:
    """-I(task; expert) from soft probabilities, clean, in nats (Mod-Squad, arXiv 2212.08066).

    The tasks are whatever `routing_sums` was given as modalities. p(e|m) is the mean clean
    gate of the task's tokens. At least -log min(M, E); 0 with one task.

    Args:
        weighting: `task`: p(m) is the same for every task that has tokens; `token`: its
            share of the tokens.

    Raises:
        ValueError: unknown weighting.
    """
    if weighting not in ("token", "task"):
        raise ValueError(f"weighting={weighting!r}: expected 'token' or 'task'")
    return -mutual_information(mean_probs(sums) if weighting == "task" else sums.probs)


def _pools(sums: RoutingSums, scope: Scope) -> PoolSums | None:
    """What the scope compares experts within; None is everything."""
    if scope == "group":
        return sums.per_group
    if scope == "device":
        if sums.per_device is None:
            raise ValueError(
                "scope='device', but these sums have no pools of devices: say how many there are, "
                "routing_sums(..., devices=n)"
            )
        return sums.per_device
    if scope == "global":
        return None
    raise ValueError(f"scope={scope!r}: expected 'group', 'device' or 'global'")
