"""Which token went to which expert: the trained model over examples, dropless."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ...models import Palm, PalmConfig, TwoTowerConfig, Vmoe, VmoeConfig
from ..classification import scaled
from ..contrastive import pair_model

if TYPE_CHECKING:
    from ..library import Run

_ROWS = 128


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of a token and the expert that it went to, in one layer.

    Attributes:
        row: the example.
        place: the token within it; a token before the first patch has place -1.
        expert: 0 to E-1.
        gate: how sure the router was.
    """

    row: Int[np.ndarray, "P"]
    place: Int[np.ndarray, "P"]
    expert: Int[np.ndarray, "P"]
    gate: Float[np.ndarray, "P"]


_NONE = np.zeros(0, np.int64)
NO_PAIRS = Pairs(_NONE, _NONE, _NONE, np.zeros(0, np.float32))


def route_images(run: Run, images: UInt8[np.ndarray, "n S S 3"]) -> dict[str, Pairs]:
    """Where the patches of images go, by layer."""
    c = run.config.model
    patches = (c.image_size // c.patch_size) ** 2
    length = c.image.num_tokens if isinstance(c, TwoTowerConfig) else patches
    return _gather(run.params, _assign_images(c), (images,), length, length - patches)


def route_texts(
    run: Run, ids: Int[np.ndarray, "n N"], real: Bool[np.ndarray, "n N"]
) -> dict[str, Pairs]:
    """Where the pieces of texts go, by layer; padding goes nowhere."""
    return _gather(run.params, _assign_texts(run.config.model), (ids, real), ids.shape[1])


def route_labelled(
    config: VmoeConfig, params: Any, images: UInt8[np.ndarray, "n S S 3"]
) -> dict[str, Pairs]:
    """Where a classifier's patches go, by layer; a class token's place is -1."""
    first = config.num_tokens - config.num_patches
    return _gather(params, _assign_labelled(config), (images,), config.num_tokens, first)


def route_packed(
    config: PalmConfig,
    params: Any,
    tokens: Int[np.ndarray, "n N"],
    segments: Int[np.ndarray, "n N"],
) -> dict[str, Pairs]:
    """Where a decoder's tokens go, by layer; padding goes nowhere."""
    return _gather(params, _assign_packed(config), (tokens, segments), tokens.shape[1])


# A page asks twice, for many examples and for those that it draws: one program serves both.
@functools.lru_cache(maxsize=4)
def _assign_images(config: Any) -> Any:
    model = pair_model(config)

    @jax.jit
    def assign(params: Any, pixels: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, pixels, None, None, mask)
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    return assign


@functools.lru_cache(maxsize=4)
def _assign_texts(config: Any) -> Any:
    model = pair_model(config)

    @jax.jit
    def assign(params: Any, ids: jax.Array, real: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, None, ids, real, mask)
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    return assign


@functools.lru_cache(maxsize=4)
def _assign_labelled(config: VmoeConfig) -> Any:
    moe = dataclasses.replace(config.moe, eval_capacity_factor=None)
    model = Vmoe(dataclasses.replace(config, moe=moe))

    @jax.jit
    def assign(params: Any, pixels: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, scaled(pixels), mask)
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    return assign


@functools.lru_cache(maxsize=4)
def _assign_packed(config: PalmConfig) -> Any:
    moe = dataclasses.replace(config.moe, eval_capacity_factor=None)
    model = Palm(dataclasses.replace(config, moe=moe))

    @jax.jit
    def assign(params: Any, tokens: jax.Array, segments: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, tokens, segments * mask[:, None])
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    return assign


def _coordinates(assignments: Any) -> dict[str, tuple[jax.Array, ...]]:
    # Groups are runs of whole examples, so that a token's number in the batch tells its example.
    found = {}
    for name, made in assignments.items():
        group = jnp.arange(made.token.shape[0])[:, None] * made.num_tokens
        parts = (made.token + group, made.expert, made.weight, made.kept)
        found[name] = tuple(part.reshape(-1) for part in parts)
    return found


def _gather(
    params: Any, assign: Any, arrays: tuple, length: int, first: int = 0
) -> dict[str, Pairs]:
    """Pairs of all rows; places count from the so-manieth token of each."""
    placed = jax.device_put(params)
    parts: dict[str, list[tuple[np.ndarray, ...]]] = {}
    total = len(arrays[0])
    for start in range(0, total, _ROWS):
        count = min(_ROWS, total - start)
        padded = [
            np.pad(a[start : start + count], [(0, _ROWS - count)] + [(0, 0)] * (a.ndim - 1))
            for a in arrays
        ]
        found = jax.device_get(assign(placed, *padded, jnp.arange(_ROWS) < count))
        for name, (token, expert, gate, kept) in found.items():
            rows, places = np.divmod(token[kept], length)
            parts.setdefault(name, []).append(
                (rows + start, places - first, expert[kept], gate[kept])
            )
    return {
        name: Pairs(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        for name, rows in parts.items()
    }
