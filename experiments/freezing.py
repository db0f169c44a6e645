"""Parameters that stay as they began: places in the tree, such as the image tower's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from .errors import ConfigError
from .suggest import nearest

Params = Any


def trained_mask(params: Params, freeze: Sequence[str]) -> Params:
    """The tree with True for what is trained.

    Args:
        params: or their shapes.
        freeze: places, each a path joined by `/` with all below it.

    Raises:
        ConfigError: a place that the tree does not have; nothing is left to train.

    Examples:
        >>> trained_mask({"image": {"kernel": 0.0}, "text": 1.0}, ["image"])
        {'image': {'kernel': False}, 'text': True}
    """
    flat: dict[str, Any] = flatten_dict(params, sep="/")  # pyright: ignore
    places = [place.strip("/") for place in freeze]
    known = {name.rsplit("/", cut)[0] for name in flat for cut in range(name.count("/") + 1)}
    for place in places:
        if place not in known:
            found = nearest(place, sorted(known)) or ", ".join(sorted(params))
            raise ConfigError([f"freeze names '{place}', which the model has not; has: {found}"])
    mask = {name: not any(_within(name, place) for place in places) for name in flat}
    if not any(mask.values()):
        raise ConfigError([f"freeze {', '.join(places)} leaves nothing to train"])
    return unflatten_dict(mask, sep="/")


def stop_frozen(params: Params, trained: Params) -> Params:
    """The same values; no gradient is computed for the frozen ones."""
    return jax.tree.map(
        lambda leaf, moves: leaf if moves else jax.lax.stop_gradient(leaf), params, trained
    )


def leave_frozen(
    optimizer: optax.GradientTransformation, trained: Params
) -> optax.GradientTransformation:
    """The optimiser, with neither updates nor state for what is frozen."""
    labels = jax.tree.map(lambda moves: "trained" if moves else "frozen", trained)
    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def _within(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}/")
