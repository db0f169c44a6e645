"""A model of any kind of experiment as training routes it: its groups and capacity, no noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ...models import (
    MODALITIES,
    MoeConfig,
    Palm,
    TwoTowerConfig,
    Vmoe,
    image_groups,
    join,
    sequence_groups,
)
from ..classification import IMAGES, scaled
from ..config import ClassificationConfig, ContrastiveConfig, Experiment, LanguageConfig
from ..contrastive import count_groups, pair_model, routing_of
from ..language import TEXT

Batch = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Probe:
    """How to ask a model's routers.

    Attributes:
        modalities: names, in the order of the routing sums.
        inputs: the arrays of a batch that the model reads.
        groups: G of B examples.
        routers: the routing of a sparse block, by its name among the results.
        apply: parameters, batch, G and a key for each group -> the model's output.
        tokens: batch, block and G -> (G, T) bool: what the router sees, as the model lays it out.
    """

    modalities: tuple[str, ...]
    inputs: tuple[str, ...]
    groups: Callable[[int], int]
    routers: Callable[[str], MoeConfig]
    apply: Callable[[Any, Batch, int, jax.Array], Any]
    tokens: Callable[[Batch, str, int], jax.Array]


def probe_of(config: Experiment) -> Probe:
    """The probe of a kind of experiment.

    Raises:
        TypeError: a kind that has none.
    """
    if isinstance(config, ContrastiveConfig):
        return _pairs(config)
    if isinstance(config, ClassificationConfig):
        return _images(config)
    if isinstance(config, LanguageConfig):
        return _texts(config)
    raise TypeError(f"{type(config).__name__} has no routing to measure")


def _pairs(config: ContrastiveConfig) -> Probe:
    two, c = isinstance(config.model, TwoTowerConfig), config.model
    if two:
        towers = {name: _quiet(getattr(c, name)) for name in ("image", "text")}
        model = pair_model(dataclasses.replace(c, **towers))
    else:
        model = pair_model(_quiet(c))

    def apply(params: Any, batch: Batch, groups: int, keys: jax.Array):
        rows = (batch["image"], batch["text"], batch["text_mask"])
        return model.apply({"params": params}, *rows, groups=groups, train=True, noise_keys=keys)

    def tokens(batch: Batch, block: str, groups: int) -> jax.Array:
        many, written = batch["image"].shape[0], batch["text_mask"]
        if not two:
            drawn = jnp.ones((many, (c.image_size // c.patch_size) ** 2), bool)
            return join([drawn, written], groups)
        if block.startswith("image/"):
            return jnp.ones((groups, many // groups * c.image.num_tokens), bool)
        # SigLIP's texts are read with their padding.
        written = jnp.ones_like(written) if c.text.pool == "last" else written
        return written.reshape(groups, -1)

    return Probe(
        modalities=MODALITIES,
        inputs=("image", "text", "text_mask"),
        groups=lambda size: count_groups(c, size) or 1,
        routers=lambda block: routing_of(c, block),
        apply=apply,
        tokens=tokens,
    )


def _images(config: ClassificationConfig) -> Probe:
    c, model = config.model, Vmoe(_quiet(config.model))

    def apply(params: Any, batch: Batch, groups: int, keys: jax.Array):
        return model.apply({"params": params}, scaled(batch["image"]), train=True, noise_keys=keys)

    def tokens(batch: Batch, block: str, groups: int) -> jax.Array:
        return jnp.ones((groups, batch["image"].shape[0] // groups * c.num_tokens), bool)

    return Probe(
        modalities=IMAGES,
        inputs=("image",),
        groups=lambda size: image_groups(c, size),
        routers=lambda _: c.moe,
        apply=apply,
        tokens=tokens,
    )


def _texts(config: LanguageConfig) -> Probe:
    c, model = config.model, Palm(_quiet(config.model))

    def apply(params: Any, batch: Batch, groups: int, keys: jax.Array):
        rows = (batch["tokens"], batch["segments"])
        return model.apply({"params": params}, *rows, train=True, noise_keys=keys)

    def tokens(batch: Batch, block: str, groups: int) -> jax.Array:
        return (batch["segments"] > 0).reshape(groups, -1)

    return Probe(
        modalities=TEXT,
        inputs=("tokens", "segments"),
        groups=lambda size: sequence_groups(c, size, c.max_length),
        routers=lambda _: c.moe,
        apply=apply,
        tokens=tokens,
    )


def _quiet(config: Any) -> Any:
    return dataclasses.replace(config, moe=dataclasses.replace(config.moe, noise_std=0.0))
