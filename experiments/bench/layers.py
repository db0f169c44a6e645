"""The layers that are timed: ours by each dispatcher, the dense MLP, and somebody else's."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...models import Mlp, Moe, MoeConfig
from ...routing import auxiliary_losses, group_size
from ..errors import UsageError
from .settings import BenchMoe, Name

# (params, x (G, T, D), train) -> outputs (G, T, D), and a loss () that training adds.
Apply = Callable[[Any, Float[Array, "G T D"], bool], tuple[Float[Array, "G T D"], Any]]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer to time.

    Attributes:
        name: in tables.
        params: a pytree of float32 arrays.
        apply: the layer.
        context: what it is compiled and called in; a mesh, perhaps.
    """

    name: str
    params: Any
    apply: Apply
    context: Callable[[], AbstractContextManager] = nullcontext


def inputs(settings: BenchMoe) -> Float[Array, "G T D"]:
    """Normally distributed tokens, in the settings' type."""
    size = group_size(settings.tokens, settings.group)
    shape = (settings.tokens // size, size, settings.width)
    return jax.random.normal(jax.random.key(settings.seed), shape).astype(settings.dtype)


def dense_layer(settings: BenchMoe) -> Layer:
    """One MLP of width K*H."""
    dense = Mlp(settings.selected * settings.hidden, dtype=settings.dtype)
    params = jax.jit(dense.init)(jax.random.key(settings.seed), inputs(settings))

    def apply(params, x, train):
        out: Any = dense.apply(params, x)
        return out, 0.0

    return Layer("dense", params, apply)


def sparse_layer(settings: BenchMoe, dispatcher: Name, dropless: bool) -> Layer:
    """Our Linen layer, whole: router, noise, assignment, dispatch, V-MoE's two balance losses.

    Without training it is the layer at inference: no noise, no losses, the same capacity.
    """
    capacity = None if dropless else settings.capacity
    config = MoeConfig(
        num_experts=settings.experts,
        selected=settings.selected,
        capacity_factor=capacity,
        eval_capacity_factor=capacity,
        batch_priority=settings.batch_priority,
        dispatcher=dispatcher,
    )
    moe = Moe(config, settings.hidden, num_modalities=1, dtype=settings.dtype, shared_init=False)
    x = inputs(settings)
    mask, modality = jnp.ones(x.shape[:2], bool), jnp.zeros(x.shape[:2], jnp.int32)
    key = jax.random.key(settings.seed)
    noise_keys = jax.random.split(key, x.shape[0])

    def apply(params, x, train):
        keys = noise_keys if train else None
        out: Any = moe.apply(params, x, mask, modality, train=train, noise_keys=keys)
        outputs, sums, _ = out
        if not train:
            return outputs, 0.0
        balance = auxiliary_losses(sums, ["all"], importance=True, load=True)
        return outputs, 0.005 * (balance["importance"] + balance["load"])

    context: Callable[[], AbstractContextManager] = nullcontext
    name: str = dispatcher
    if dispatcher == "expert_parallel":
        name = f"{dispatcher} ×{jax.device_count()}"
        context = functools.partial(jax.set_mesh, jax.make_mesh((jax.device_count(),), ("expert",)))
    with context():
        params = jax.jit(lambda k: moe.init(k, x, mask, modality, train=False))(key)
    return Layer(f"{name} dropless" if dropless else name, params, apply, context)


def foreign_layer(settings: BenchMoe, where: str) -> Layer:
    """Somebody else's layer, beside ours.

    Args:
        settings: handed to the function, so that it builds a layer of that size.
        where: `module:function`, found as `python` would from the current folder. The function
            takes the `BenchMoe` and gives `(params, apply)`; `apply(params, x, train)` takes
            x (G, T, D) and gives outputs of that shape, or `(outputs, loss)` with a scalar that
            training adds.

    Raises:
        UsageError: not of that form, or what it names is not there, or its outputs have another
            shape than its inputs.
    """
    module, colon, function = where.partition(":")
    if not (module and colon and function):
        raise UsageError(f"--against {where}: expected module:function, say mine.layers:build")
    sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--against {where}: {error}") from error
    finally:
        sys.path.pop(0)
    params, foreign = build(settings)

    def apply(params, x, train):
        out = foreign(params, x, train)
        return out if isinstance(out, tuple) else (out, 0.0)

    x = inputs(settings)
    shape = jax.eval_shape(lambda p, x: apply(p, x, False)[0], params, x).shape
    if shape != x.shape:
        raise UsageError(f"--against {where}: outputs are {shape}, the inputs {x.shape}")
    return Layer(where, params, apply)
