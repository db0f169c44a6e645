"""The losses of a routing layer that are asked for, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Array, Float

from .losses import (
    Scope,
    global_entropy_loss,
    gshard_loss,
    importance_loss,
    load_loss,
    local_entropy,
    switch_loss,
    task_information_loss,
    token_information_loss,
    z_loss,
)
from .sums import RoutingSums


def auxiliary_losses(
    sums: RoutingSums,
    modalities: Sequence[str],
    *,
    importance: bool = False,
    load: bool = False,
    gshard: bool = False,
    switch: bool = False,
    z: bool = False,
    local: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    token_information: bool = False,
    task_information: bool = False,
    scope: Scope = "group",
) -> dict[str, Float[Array, ""]]:
    """The losses that are asked for, by name, unweighted; whoever adds them up names each.

    Args:
        modalities: the M names, in the order of their numbers.
        importance, load, gshard, switch, z, token_information, task_information: whether to
            return these.
        local: modalities whose local entropy is returned, as `local/NAME`.
        thresholds: soft minimum of experts per modality, for `global/NAME`; 0 is off.
        scope: of importance, load, gshard and switch (`importance_loss`). The others are
            always over all merged tokens.

    Returns:
        float32 scalars, in the order importance, load, gshard, switch, z, local, global,
        token_information, task_information.

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
    if gshard:
        terms["gshard"] = gshard_loss(sums, scope)
    if switch:
        terms["switch"] = switch_loss(sums, scope)
    if z:
        terms["z"] = z_loss(sums)
    confident = local_entropy(sums)
    for name in local:
        terms[f"local/{name}"] = confident[modalities.index(name)]
    for name, experts in thresholds.items():
        if experts:
            number = modalities.index(name)
            terms[f"global/{name}"] = global_entropy_loss(sums, number, experts)
    if token_information:
        terms["token_information"] = token_information_loss(sums)
    if task_information:
        terms["task_information"] = task_information_loss(sums)
    return terms
