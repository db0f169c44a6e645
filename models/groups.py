"""How a batch of sequences is cut into routing groups."""

from __future__ import annotations

from ..routing import group_size
from .config import MoeConfig


def whole_sequence_groups(moe: MoeConfig, batch: int, length: int) -> int:
    """G: whole sequences make a group, as many as fit `moe.group_size` and divide the batch.

    Args:
        moe: the wished group size, in tokens.
        batch: sequences.
        length: tokens of each.
    """
    wish = max(1, moe.group_size // length)
    return batch // group_size(batch, min(wish, batch))
