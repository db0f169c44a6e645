"""The routers' part of an objective: auxiliary losses, averaged over losses and blocks."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from ..routing import RoutingSums, auxiliary_losses
from .config import LossConfig, RouterLossConfig


def layer_losses(
    sums: RoutingSums, config: RouterLossConfig, modalities: Sequence[str]
) -> dict[str, Array]:
    """The router losses of one block that the config switches on, by name, unweighted."""
    local: tuple[str, ...] = ()
    thresholds: dict[str, float] = {}
    if isinstance(config, LossConfig):
        local = config.local
        thresholds = {"image": config.threshold_image, "text": config.threshold_text}
    return auxiliary_losses(
        sums,
        tuple(modalities),
        importance=config.importance,
        load=config.load,
        z=config.z,
        switch=config.switch,
        gshard=config.gshard,
        scope=config.scope,
        local=local,
        thresholds=thresholds,
    )


def router_losses(
    sums: dict[str, RoutingSums], config: RouterLossConfig, modalities: Sequence[str]
) -> dict[str, Array]:
    """`loss/NAME`, each the mean over sparse blocks, and `loss/auxiliary`, the mean of these.

    A model without routers has `loss/auxiliary` alone, zero (LIMoE, App. B.1).
    """
    layers = [layer_losses(layer, config, modalities) for layer in sums.values()]
    auxiliary = zero = jnp.zeros(())
    parts: dict[str, Array] = {}
    if layers and layers[0]:
        for name in layers[0]:
            parts[f"loss/{name}"] = sum((layer[name] for layer in layers), zero) / len(layers)
        auxiliary = sum(parts.values(), zero) / len(parts)
    return parts | {"loss/auxiliary": auxiliary}
