"""Sparse upcycling: a dense model's MLPs, copied, become experts (arXiv 2212.05055)."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from .config import MoeConfig, sparse_blocks
from .interop.folder import MOST_EXPERTS, LoadedModel

Towers = Literal["both", "image", "text"]


def upcycle_model(
    model: LoadedModel,
    moe: MoeConfig,
    key: Key[Array, ""],
    *,
    noise: float = 0.0,
    towers: Towers = "both",
) -> LoadedModel:
    """A sparse model out of a dense one: in its sparse blocks every expert begins as the dense
    block's MLP.

    Where a token's gates add up to 1 (`moe.renormalize`, or K = E), nothing is dropped and
    `noise` is 0, the new model's outputs are the old one's.

    Args:
        model: a dense V-MoE (a ViT), LIMoE or two towers; not changed.
        moe: the sparse blocks.
        key: of the routers, which begin anew, and of the noise.
        noise: standard deviation of what is added to the experts' kernels, in units of each
            kernel's own, so that experts differ from the start.
        towers: which of two towers grow; a model of one stack grows as a whole.

    Raises:
        ValueError: the model is sparse already, no block would become so, the router has no
            plain kernel, or a number is out of its range.
    """
    _check_growable(moe, noise)
    stacks = _stacks(model, towers)
    config, params = model.config, copy.deepcopy(jax.tree.map(jnp.asarray, model.params))
    for number, path in enumerate(stacks):
        place, tree = config, params
        for name in path:
            place, tree = getattr(place, name), tree[name]
        sparse = sparse_blocks(moe, place.depth)
        found = sparse_blocks(place.moe, place.depth)
        where = f"{'.'.join(path)}: " if path else ""
        if found:
            raise ValueError(f"{where}blocks {found} are sparse already: only dense models grow")
        if not sparse:
            raise ValueError(
                f"{where}placement {moe.placement!r} with n={moe.n} makes no block sparse"
            )
        # Each tower its own draws; those of the first are the only ones of one stack.
        drawn = key if number == 0 else jax.random.fold_in(key, place.depth + number)
        _grow(tree["Encoder"], sparse, place.width, moe, drawn, noise)
        place = dataclasses.replace(place, moe=moe)
        config = dataclasses.replace(config, **{path[0]: place}) if path else place
    return LoadedModel(model.kind, config, params)


def _check_growable(moe: MoeConfig, noise: float) -> None:
    fresh = ("soft", "hash", "random")
    if moe.router in fresh or moe.task != "none" or moe.shared_experts or moe.granularity > 1:
        raise ValueError(
            "upcycling copies MLPs to whole experts behind a learned router: no router of "
            f"{fresh}, no task, no shared or fine-grained experts"
        )
    if moe.kept_experts:
        raise ValueError("upcycling makes all experts: leave kept_experts empty")
    if moe.n < 1 or not 1 <= moe.num_experts <= MOST_EXPERTS:
        raise ValueError(
            f"n={moe.n}, num_experts={moe.num_experts}: expected n of 1 or more, and 1 to "
            f"{MOST_EXPERTS} experts"
        )
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise={noise}: a standard deviation is a number, and not negative")


def _stacks(model: LoadedModel, towers: Towers) -> list[tuple[str, ...]]:
    """Where the stacks that grow are, in the config and in the parameters alike."""
    if model.kind == "two_tower":
        return [(name,) for name in ("image", "text") if towers in ("both", name)]
    if model.kind not in ("vmoe", "limoe"):
        raise ValueError(
            f"a {model.kind} does not grow: its MLPs are not such as experts are, or it is a part "
            "of a model; known: vmoe, limoe, two_tower"
        )
    if towers != "both":
        raise ValueError(f"towers={towers!r}: a {model.kind} is one stack, which grows as a whole")
    return [()]


def _grow(
    encoder: dict[str, Any],
    sparse: tuple[int, ...],
    width: int,
    moe: MoeConfig,
    key: Key[Array, ""],
    noise: float,
) -> None:
    """Turns the sparse blocks' MLPs into mixtures, in place."""
    for index in sparse:
        block = encoder[f"encoderblock_{index}"]
        for_router, for_noise = jax.random.split(jax.random.fold_in(key, index))
        router: dict[str, Any] = {
            "dense": {
                "kernel": nn.initializers.lecun_normal()(for_router, (width, moe.num_experts))
            }
        }
        if moe.bias != "none":
            router["bias"] = jnp.zeros(moe.num_experts)
        experts = _copies(block.pop("Mlp"), moe.num_experts, for_noise, noise)
        block["Moe"] = {"Mlp": experts, "Router": router}


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
