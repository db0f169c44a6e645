"""Which token went to which expert: the trained model over drawings and words, dropless."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from ..contrastive import pair_model

if TYPE_CHECKING:
    from ..library import Run

_ROWS = 128


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pairs of a token and the expert that it went to, in one layer.

    Attributes:
        row: the example.
        place: the token within it.
        expert: 0 to E-1.
        gate: how sure the router was.
    """

    row: Int[np.ndarray, "P"]
    place: Int[np.ndarray, "P"]
    expert: Int[np.ndarray, "P"]
    gate: Float[np.ndarray, "P"]


def route_images(run: Run, images: UInt8[np.ndarray, "n S S 3"]) -> dict[str, Pairs]:
    """Where the patches of images go, by layer."""
    model = pair_model(run.config.model)

    @jax.jit
    def assign(params: Any, pixels: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, pixels, None, None, mask)
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    patches = (run.config.model.image_size // run.config.model.patch_size) ** 2
    return _gather(run.params, assign, (images,), patches)


def route_texts(
    run: Run, ids: Int[np.ndarray, "n N"], real: Bool[np.ndarray, "n N"]
) -> dict[str, Pairs]:
    """Where the pieces of texts go, by layer; padding goes nowhere."""
    model = pair_model(run.config.model)

    @jax.jit
    def assign(params: Any, ids: jax.Array, real: jax.Array, mask: jax.Array):
        found = model.apply({"params": params}, None, ids, real, mask)
        return _coordinates(found.assignments)  # pyright: ignore[reportAttributeAccessIssue]

    return _gather(run.params, assign, (ids, real), ids.shape[1])


def _coordinates(assignments: Any) -> dict[str, tuple[jax.Array, ...]]:
    # One group, so that a token's number tells its example.
    return {
        name: (made.token[0], made.expert[0], made.weight[0], made.kept[0])
        for name, made in assignments.items()
    }


def _gather(params: Any, assign: Any, arrays: tuple, length: int) -> dict[str, Pairs]:
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
            parts.setdefault(name, []).append((rows + start, places, expert[kept], gate[kept]))
    return {
        name: Pairs(*(np.concatenate(column) for column in zip(*rows, strict=True)))
        for name, rows in parts.items()
    }
