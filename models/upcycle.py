"""Sparse upcycling: a dense model's MLPs, copied, become experts (arXiv 2212.05055)."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .config import MoeConfig
from .vmoe_config import VmoeConfig


def upcycle_vmoe(
    config: VmoeConfig,
    params: dict[str, Any],
    moe: MoeConfig,
    key: Key[Array, ""],
    *,
    noise: float = 0.0,
) -> tuple[VmoeConfig, dict[str, Any]]:
    """A V-MoE out of a ViT: in its sparse blocks every expert begins as the dense block's MLP.

    Where a token's gates add up to 1 (`moe.renormalize`, or K = E), nothing is dropped and
    `noise` is 0, the new model's outputs are the old one's.

    Args:
        config: of the dense model.
        params: its parameters; not changed.
        moe: the sparse blocks.
        key: of the routers, which begin anew, and of the noise.
        noise: standard deviation of what is added to the experts' kernels, in units of each
            kernel's own, so that experts differ from the start.

    Raises:
        ValueError: the model is sparse already, no block would become so, the router has no
            plain kernel, or the noise is negative.
    """
    if config.moe_layers:
        raise ValueError(f"blocks {config.moe_layers} are sparse already: only dense models grow")
    grown = dataclasses.replace(config, moe=moe)
    if not grown.moe_layers:
        raise ValueError(f"placement {moe.placement!r} with n={moe.n} makes no block sparse")
    fresh = ("soft", "hash", "random")
    if moe.router in fresh or moe.task != "none" or moe.shared_experts or moe.granularity > 1:
        raise ValueError(
            "upcycling copies MLPs to whole experts behind a learned router: no router of "
            f"{fresh}, no task, no shared or fine-grained experts"
        )
    if not noise >= 0:
        raise ValueError(f"noise={noise}: a standard deviation is not negative")
    params = copy.deepcopy(jax.tree.map(jnp.asarray, params))
    for index in grown.moe_layers:
        block = params["Encoder"][f"encoderblock_{index}"]
        for_router, for_noise = jax.random.split(jax.random.fold_in(key, index))
        shape = (config.width, moe.num_experts)
        router: dict[str, Any] = {
            "dense": {"kernel": nn.initializers.lecun_normal()(for_router, shape)}
        }
        if moe.bias != "none":
            router["bias"] = jnp.zeros(moe.num_experts)
        experts = _copies(block.pop("Mlp"), moe.num_experts, for_noise, noise)
        block["Moe"] = {"Mlp": experts, "Router": router}
    return grown, params


def _copies(mlp: dict[str, Any], number: int, key: Key[Array, ""], noise: float) -> dict[str, Any]:
    """The MLP's parameters with a leading axis of experts; kernels disturbed, biases not."""
    leaves, structure = jax.tree.flatten(mlp)
    keys = jax.random.split(key, len(leaves))

    def each(leaf: Array, key: Key[Array, ""]) -> Array:
        many = jnp.broadcast_to(leaf, (number, *leaf.shape))
        if noise == 0 or leaf.ndim < 2:
            return many
        return many + noise * jnp.std(leaf) * jax.random.normal(key, many.shape, leaf.dtype)

    return structure.unflatten([each(*pair) for pair in zip(leaves, keys, strict=True)])
