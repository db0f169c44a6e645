"""The random keys of a request: those that `models.generate` would draw its tokens by."""

from __future__ import annotations

import functools

import jax
import numpy as np

from .generation import Wanted

_COUNTED, _MANY = ("threefry2x32",), 256


def request_keys(wanted: Wanted) -> np.ndarray:
    """(steps, W) uint32, a key's data for each token; zeros where nothing is drawn."""
    if not wanted.temperature:
        return np.zeros((wanted.steps, key_width()), np.uint32)
    # Where keys are split by their number alone, one program serves all: each number of steps
    # would else be compiled for.
    alike = jax.config.jax_threefry_partitionable and jax.config.jax_default_prng_impl in _COUNTED  # pyright: ignore[reportAttributeAccessIssue]
    many = -(-wanted.steps // _MANY) * _MANY if alike else wanted.steps
    keys = jax.random.split(jax.random.key(wanted.seed), many)
    return np.asarray(jax.random.key_data(keys))[: wanted.steps]


@functools.cache
def key_width() -> int:
    """W, numbers in a key's data."""
    return jax.random.key_data(jax.random.key(0)).shape[-1]
