"""Tiny decoders for serving, with random weights, and what each makes of a prompt alone."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from byways.models import MoeConfig, Palm, PalmConfig, generate

WIDEST = 8  # tokens of the prompts here

DENSE = PalmConfig(vocab_size=29, width=8, hidden=16, depth=1, heads=2, head_size=6, max_length=48)
SPARSE = dataclasses.replace(DENSE, moe=MoeConfig(n=1, num_experts=3, selected=2))


@functools.cache
def initialised(config):
    return jax.jit(Palm(config).init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))


def alone(config, prompt, steps, *, seed=0, end=None, **how):
    """What `generate` makes of one prompt, up to its end."""
    tokens, mask = np.zeros((1, WIDEST), np.int32), np.zeros((1, WIDEST), bool)
    tokens[0, : len(prompt)], mask[0, : len(prompt)] = prompt, True
    made = generate(
        config,
        initialised(config),
        jnp.asarray(tokens),
        jnp.asarray(mask),
        steps=steps,
        key=jax.random.key(seed),
        **how,
    )
    found = np.asarray(made)[0].tolist()
    return found[: found.index(end) + 1] if end in found else found
