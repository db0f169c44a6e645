"""Which requests can be served at all."""

from __future__ import annotations

from ...models import PalmConfig
from .generation import Wanted


def check_wanted(config: PalmConfig, room: int, wanted: Wanted) -> None:
    """Before anything is sent.

    Args:
        config: of the model.
        room: tokens of a prompt and of what is made of it.
        wanted: the request.

    Raises:
        ValueError: what cannot be served, and why.
    """
    length = len(wanted.prompt)
    if not length:
        raise ValueError("the prompt is empty: give it one token or more")
    outside = [token for token in wanted.prompt if not 0 <= token < config.vocab_size]
    if outside:
        raise ValueError(f"token {outside[0]} of the prompt: expected 0..{config.vocab_size - 1}")
    if wanted.steps < 1:
        raise ValueError(f"steps={wanted.steps}: at least one token is made")
    if length + wanted.steps > room:
        raise ValueError(
            f"a prompt of {length} tokens and {wanted.steps} to make are longer than {room}, the "
            f"room for both: at most {max(0, room - length)} can be made of it"
        )
    if not wanted.temperature >= 0:
        raise ValueError(f"temperature={wanted.temperature}: it is zero (greedy) or above")
    if wanted.top_k is not None and not 1 <= wanted.top_k <= config.vocab_size:
        raise ValueError(f"top_k={wanted.top_k}: expected 1..{config.vocab_size}, or None for all")
    if not 0 <= wanted.seed < 2**63:
        raise ValueError(f"seed={wanted.seed}: expected 0 or more")
