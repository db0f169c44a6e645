"""What optimisers ask of more arrays than they are given: norms and means over all experts.

Experts are updated apart from each other. Where optax takes a norm of the whole tree, or the mean
square of a whole (E, …) array, the number comes in from outside here, as `across`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

Transformation = optax.GradientTransformation


@dataclasses.dataclass
class Across:
    """What is known of all arrays together.

    Attributes:
        norm: of all gradients.
        updates: mean square of an (E, …) array's update as it stands before it is clipped by that,
            by the leaf's place; None where nobody asks.
        params: the same of the parameters.
        seen: where it is a dictionary, nothing is clipped or scaled by leaf: the updates as they
            stand are put here, by place, for the mean to be taken of them.
    """

    norm: Float[Array, ""]
    updates: Mapping[str, Float[Array, ""]] | None = None
    params: Mapping[str, Float[Array, ""]] | None = None
    seen: dict[str, Array] | None = None


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Constructors of the transformations that look beyond one element or one matrix.

    Attributes:
        clip_by_global_norm, clip_by_block_rms, scale_by_param_block_rms: as optax's.
    """

    clip_by_global_norm: Callable[[float], Transformation] = optax.clip_by_global_norm
    clip_by_block_rms: Callable[[float], Transformation] = optax.clip_by_block_rms
    scale_by_param_block_rms: Callable[[float], Transformation] = optax.scale_by_param_block_rms


def clip_by_given_norm(max_norm: float) -> Transformation:
    """`optax.clip_by_global_norm`, by `across.norm`."""

    def update(updates, state, params=None, *, across: Across, **_):
        norm = across.norm

        def clip(u):
            return jax.lax.select(norm < max_norm, u, u / norm.astype(u.dtype) * max_norm)

        return jax.tree.map(clip, updates), state

    return _stateless(update)


def clip_by_given_rms(threshold: float) -> Transformation:
    """`optax.clip_by_block_rms`, by `across.updates`."""

    def update(updates, state, params=None, *, across: Across, **_):
        if across.seen is not None:
            across.seen.update(by_place(updates))
            return updates, state
        squares = across.updates
        assert squares is not None

        def clip(path, u):
            rms = jnp.sqrt(squares[place_of(path)])
            return u / jnp.maximum(1.0, rms / threshold).astype(u.dtype)

        return jax.tree_util.tree_map_with_path(clip, updates), state

    return _stateless(update)


def scale_by_given_rms(min_scale: float) -> Transformation:
    """`optax.scale_by_param_block_rms`, by `across.params`."""

    def update(updates, state, params=None, *, across: Across, **_):
        if across.seen is not None:
            return updates, state
        squares = across.params
        assert squares is not None

        def scale(path, u):
            rms = jnp.sqrt(squares[place_of(path)])
            return u * jnp.maximum(rms, min_scale).astype(u.dtype)

        return jax.tree_util.tree_map_with_path(scale, updates), state

    return _stateless(update)


# Of the parameters that are no experts': their leaves are whole, but the norm is of all.
NORM_GIVEN = Blocks(clip_by_global_norm=clip_by_given_norm)
# Of experts apart, as if they stood together in their (E, …) arrays.
ALL_GIVEN = Blocks(clip_by_given_norm, clip_by_given_rms, scale_by_given_rms)


def place_of(path: tuple[Any, ...]) -> str:
    """The keys of a path in nested dictionaries, joined by `/`."""
    return "/".join(str(key.key) for key in path)


def by_place(tree: Any) -> dict[str, Any]:
    """The leaves of nested dictionaries by their places."""
    return {place_of(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _stateless(update: Callable[..., Any]) -> Transformation:
    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
