"""The kinds of models that folders hold: of each its config, its module, what it is called with."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ..causal_routing import check_causal
from ..config import sparse_blocks


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of model; files are named from `models/`, and imported when first used.

    Attributes:
        config: `file:class` of its config.
        module: `file:name` of what makes its Flax module of a config.
        inputs: shapes and types of the arguments that its parameters are initialised with.
        causal: its mixtures may have to be dropless (`check_causal`).
        optional: shapes of parameters that some have besides the module's: the loss's.
    """

    config: str
    module: str
    inputs: Callable[[Any], tuple]
    causal: bool = False
    optional: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def config_class(self) -> type:
        """The dataclass of its configs."""
        return _named(self.config)

    def make(self, config: Any) -> Any:
        """The Flax module of a config."""
        return _named(self.module)(config)


def _pixels(config: Any, kind: Any = np.uint8) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), kind)


def _text(config: Any) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shape = (1, config.text_length)
    return jax.ShapeDtypeStruct(shape, np.int32), jax.ShapeDtypeStruct(shape, np.bool_)


def _contrastive(name: str, config: str, module: str) -> dict[str, Kind]:
    """A model of images and text, and what is left of it for one of them alone: the module's
    parameters are those that a call with that one makes."""
    bias = {"sigmoid_bias": ()}
    return {
        name: Kind(config, module, lambda c: (_pixels(c), *_text(c)), optional=bias),
        f"{name}_image": Kind(config, module, lambda c: (_pixels(c), None, None), optional=bias),
        f"{name}_text": Kind(config, module, lambda c: (None, *_text(c)), optional=bias),
    }


MODEL_KINDS = {
    "vmoe": Kind("vmoe_config:VmoeConfig", "vmoe:Vmoe", lambda c: (_pixels(c, np.float32),)),
    **_contrastive("limoe", "config:ModelConfig", "limoe:Limoe"),
    **_contrastive("two_tower", "two_tower_config:TwoTowerConfig", "two_tower:TwoTower"),
    "palm": Kind(
        "palm_config:PalmConfig",
        "palm:Palm",
        lambda c: (jax.ShapeDtypeStruct((1, 1), np.int32),),
        causal=True,
    ),
}


def parameter_shapes(kind: str, config: Any) -> dict[str, tuple[int, ...]]:
    """By name, the tree's path joined by `/`; allocates nothing.

    Args:
        kind: a key of `MODEL_KINDS`.
        config: of that kind.

    Raises:
        ValueError: the config makes no model.
    """
    return dict(_shapes(kind, config))


@functools.lru_cache(maxsize=16)
def _shapes(kind: str, config: Any) -> dict[str, tuple[int, ...]]:
    from flax.traverse_util import flatten_dict

    entry = MODEL_KINDS[kind]
    quick = _quick(config, entry.causal)
    tree = jax.eval_shape(entry.make(quick).init, jax.random.key(0), *entry.inputs(quick))
    flat: dict[str, Any] = flatten_dict(tree["params"], sep="/")  # pyright: ignore
    return {name: leaf.shape for name, leaf in flat.items()}


def model_kind(config: Any) -> str:
    """The kind of the whole models that have such a config.

    Raises:
        ValueError: none has.
    """
    for name, kind in MODEL_KINDS.items():  # whole ones stand before their parts
        if kind.config_class() is type(config):
            return name
    raise ValueError(f"{type(config).__name__} is no model's config; known: {sorted(MODEL_KINDS)}")


def _quick(config: Any, causal: bool) -> Any:
    """A config of the same parameters whose trace is quick, and allocates and needs nothing."""
    changes: dict[str, Any] = {}
    causal = getattr(config, "causal", causal)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name == "moe":
            if causal and sparse_blocks(value, config.depth):
                check_causal(value, train=False)  # of the config's own capacity
            # With a capacity the path is shorter; some dispatchers need a mesh.
            dropless = causal and value.eval_capacity_factor is None
            changes["moe"] = dataclasses.replace(
                value,
                eval_capacity_factor=None if dropless else float(value.num_experts),
                capacity_multiple_of=1,  # which may be more than one example has tokens
                dispatcher="index",
            )
        elif field.name == "positions" and value == "sincos2d":
            changes["positions"] = "none"  # a table, made by NumPy, that is no parameter either
        elif dataclasses.is_dataclass(value):
            changes[field.name] = _quick(value, causal)
    return dataclasses.replace(config, **changes)


def _named(place: str) -> Any:
    file, name = place.split(":")
    return getattr(importlib.import_module(f"..{file}", __package__), name)
