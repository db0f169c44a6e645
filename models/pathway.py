"""What a modality uses of a model, cut out as a smaller model that stands alone."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from .config import MoeConfig
from .interop.folder import LoadedModel

_MODALITIES = {
    "limoe": ("image", "text"),
    "two_tower": ("image", "text"),
    "vmoe": ("image",),
    "palm": ("text",),
}


def cut_pathway(
    model: LoadedModel,
    modality: str,
    pairs: Mapping[str, Any],
    *,
    min_share: float = 0.0,
    most: int | None = None,
) -> LoadedModel:
    """The model for one modality: its embedding, its projection, and the experts that it uses.

    Routers stay whole, so that gates and choices are those of the whole model; a token that chooses
    an expert which is gone loses it, as one that found no slot. Where `min_share` is 0 and
    `most` None, only experts without any pair go, and on the tokens that were counted the outputs
    are exactly the whole model's. With routing by task alone (`moe.task="alone"`, the task
    being the modality; arXiv 2110.03742) K experts of each layer are left, whatever the tokens.

    Args:
        model: a whole one.
        modality: `image` or `text`.
        pairs: (E,) of each sparse block, by the name that it has in the model's results: pairs of
            tokens of this modality and experts (`RoutingSums.assigned`, dropless).
        min_share: experts with less of a block's pairs go; the largest always stays.
        most: experts of each block that stay at most, those with the most pairs; None is no bound.

    Returns:
        Of kind `limoe_image` and so on; a V-MoE, which has one modality, stays a `vmoe`.

    Raises:
        ValueError: the model has no such modality or is a pathway already; its router gives every
            expert tokens of every kind; blocks' pairs are missing, or there are none.
    """
    known = _MODALITIES.get(model.kind, ())
    if modality not in known:
        raise ValueError(f"a {model.kind} has no pathway for {modality!r}; known: {list(known)}")
    if not 0 <= min_share <= 1 or (most is not None and most < 1):
        raise ValueError(f"min_share={min_share} is no share, or most={most} leaves no expert")
    config, tower = model.config, model.kind == "two_tower"
    place = getattr(config, modality) if tower else config
    moe: MoeConfig = place.moe
    params = copy.copy(model.params)
    if len(known) > 1:
        other = known[1 - known.index(modality)]
        params = {key: params[key] for key in params if key not in (other, f"{other}_projection")}
    blocks = _blocks(config, modality, model.kind)
    if blocks:
        if moe.kept_experts:
            raise ValueError("the model is a pathway already: cut the whole one")
        if moe.router in ("soft", "expert_choice"):
            raise ValueError(
                f"router {moe.router!r} has no pathway: every expert has all modalities"
            )
        if set(pairs) != set(blocks):
            raise ValueError(f"pairs of blocks {sorted(pairs)}; expected those of {list(blocks)}")
        kept = {name: _used(name, pairs[name], moe, min_share, most) for name in blocks}
        for name, path in blocks.items():
            params = _with_experts(params, path, kept[name])
        numbers = tuple(
            block * moe.routed_experts + int(expert)
            for block, name in enumerate(blocks)
            for expert in kept[name]
        )
        place = dataclasses.replace(place, moe=dataclasses.replace(moe, kept_experts=numbers))
        config = dataclasses.replace(config, **{modality: place}) if tower else place
    kind = f"{model.kind}_{modality}" if len(known) > 1 else model.kind
    return LoadedModel(kind, config, params)


def _blocks(config: Any, modality: str, kind: str) -> dict[str, tuple[str, ...]]:
    """Of each sparse block that the modality meets its name in results, and its mixture's path."""
    if kind == "palm":
        return {f"block_{i}": (f"block_{i}", "moe", "Mlp") for i in config.moe_layers}
    if kind == "two_tower":
        layers = getattr(config, f"{modality}_stack").moe_layers
        names = {i: f"{modality}/encoderblock_{i}" for i in layers}
        return {names[i]: (modality, "Encoder", f"encoderblock_{i}", "Moe", "Mlp") for i in layers}
    blocks = [f"encoderblock_{i}" for i in config.moe_layers]
    return {name: ("Encoder", name, "Moe", "Mlp") for name in blocks}


def _used(name: str, pairs: Any, moe: MoeConfig, min_share: float, most: int | None) -> np.ndarray:
    counts = np.asarray(pairs, np.float64)
    if counts.shape != (moe.routed_experts,) or not counts.sum() > 0:
        raise ValueError(
            f"{name}: pairs {counts.tolist()[:8]}; expected counts of {moe.routed_experts} "
            "experts, not all zero: let some data through the model first"
        )
    order = np.argsort(-counts, kind="stable")
    good = (counts > 0) & (counts >= min_share * counts.sum())
    good[order[0]] = True
    if most is not None:
        good[order[most:]] = False
    return np.flatnonzero(good)


def _with_experts(tree: Any, path: tuple[str, ...], kept: np.ndarray) -> Any:
    """A tree whose leaves under the path have these rows alone; the old one is as it was."""
    if not path:
        if isinstance(tree, Mapping):
            return {key: _with_experts(value, (), kept) for key, value in tree.items()}
        return np.asarray(tree)[kept]
    return {**tree, path[0]: _with_experts(tree[path[0]], path[1:], kept)}
