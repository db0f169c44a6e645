"""Texts that a decoder continues: prompts to numbers, generation, and numbers to texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..datasets import TextCodes
from ..models import PalmConfig, generate


def continue_texts(
    config: PalmConfig,
    params: Any,
    codes: TextCodes,
    prompts: Sequence[str],
    *,
    steps: int | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    seed: int = 0,
) -> list[str]:
    """Each prompt and what follows, up to the mark that ends a text.

    Args:
        config, params: of the model.
        codes: its vocabulary.
        prompts: beginnings; an empty one lets the model begin.
        steps: tokens to make at most; None is as many as fit, 64 at most.
        temperature: 0 takes the likeliest token each time.
        top_k: draws among so many of the likeliest only.
        seed: of the draws.

    Raises:
        ValueError: a prompt leaves no room in `max_length`; or as `generate`.
    """
    if not prompts:
        return []
    begun = [codes.start(prompt) for prompt in prompts]
    longest = max(begun, key=len)
    room = config.max_length - len(longest)
    if room < (steps or 1):
        raise ValueError(
            f"a prompt of {len(longest)} tokens (the mark before it is one) and {steps or 1} to "
            f"make are longer than max_length={config.max_length}: at most "
            f"{max(room, 0)} can be made; give a shorter prompt, or fewer steps"
        )
    tokens = np.zeros((len(begun), len(longest)), np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, numbers in enumerate(begun):
        tokens[row, : len(numbers)], mask[row, : len(numbers)] = numbers, True
    made = generate(
        config,
        {"params": params},
        jnp.asarray(tokens),
        jnp.asarray(mask),
        steps=min(room, 64) if steps is None else steps,
        key=jax.random.key(seed),
        temperature=temperature,
        top_k=top_k,
        end=codes.mark,
    )
    return [
        codes.decode([*first, *rest]) for first, rest in zip(begun, np.asarray(made), strict=True)
    ]


def printable(text: str) -> str:
    """What a model wrote, without what would steer a terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
