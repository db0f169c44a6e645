"""What a sparse layer has to do for one batch, fused and as pathways: rows, blocks, programs."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ...routing import block_size, block_sizes
from ...runtime import awake_groups, ladder


@dataclasses.dataclass(frozen=True)
class LayerWork:
    """One sparse layer and its tokens.

    Attributes:
        counts: rows of each expert, E of them; expected ones where the batch is not known yet.
        width: D.
        hidden: H.
        pairs: G*P, pairs of tokens and experts that there can be.
        devices: that the experts live on as pathways.
        together: as of `lower`.
    """

    counts: tuple[int, ...]
    width: int
    hidden: int
    pairs: int
    devices: int = 1
    together: int = 4

    @property
    def awake(self) -> int:
        """Experts with rows."""
        return sum(count > 0 for count in self.counts)

    @functools.cached_property
    def blocks(self) -> tuple[int, ...]:
        """Rows of each block that the fused layer (`blocked`) multiplies."""
        unit = block_size(self.pairs, len(self.counts))
        sizes = block_sizes(self.pairs, len(self.counts), unit)
        below, largest = (0, *sizes)[-2:]
        found: list[int] = []
        for count in self.counts:
            # As `BlockedProducts` does it: the largest, then the first that holds the rest.
            full = max(0, -(-(count - below) // largest))
            found += [largest] * full
            left = count - full * largest
            if left > 0:
                found.append(next(size for size in sizes if size >= left))
        return tuple(found)

    @functools.cached_property
    def programs(self) -> tuple[tuple[int, int, int], ...]:
        """(device, experts, bucket of each) of every program of the pathways."""
        counts, rungs = np.asarray(self.counts, np.int64), ladder(self.most_rows)
        groups = awake_groups(counts, rungs, self.devices, self.together)
        return tuple((group.home, len(group.branches), group.bucket) for group in groups)

    @property
    def most_rows(self) -> int:
        """R: the pairs, and the last block's reach past them."""
        experts = len(self.counts)
        return self.pairs + block_sizes(self.pairs, experts, block_size(self.pairs, experts))[-1]

    @property
    def fused_rows(self) -> int:
        """Rows that the fused layer multiplies, padding with them."""
        return sum(self.blocks)

    @property
    def pathways_rows(self) -> int:
        """Rows that the experts' programs multiply, padding with them."""
        return sum(experts * bucket for _, experts, bucket in self.programs)

    @property
    def expert_bytes(self) -> int:
        """Of one expert's float32 weights, or of their gradients."""
        return 4 * (2 * self.width * self.hidden + self.width + self.hidden)
