"""PaLM's sizes and options, as data: imports neither JAX nor Flax."""

from __future__ import annotations

import dataclasses
from typing import Literal

from .config import MoeConfig, Remat, sparse_blocks


@dataclasses.dataclass(frozen=True)
class PalmConfig:
    """A decoder of text (Chowdhery et al., arXiv 2204.02311, section 2).

    Attributes:
        vocab_size: V, tokens of the vocabulary; one table embeds them and scores them.
        width, hidden, depth, heads: D, H, L and attention heads A.
        head_size: F, of one head; even, and free of D (540B: 48 · 256 is not 18,432).
        max_length: tokens of a sequence, what is generated included; longer ones are refused.
        rope_base: the slowest rotary frequency is about one over this.
        z_loss: weight of log² Z, for a trainer to hand to `palm_loss`.
        dtype: of activations and matrix products; parameters are always float32.
        scan, remat: how the blocks are traced, and what is kept for the backward pass; see
            `StackConfig`.
        moe: the sparse variant (docs/palm.md says which routers can be causal).
    """

    vocab_size: int = 256_000
    width: int = 4096
    hidden: int = 16_384
    depth: int = 32
    heads: int = 16
    head_size: int = 256
    max_length: int = 2048
    rope_base: float = 10_000.0
    z_loss: float = 1e-4
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False
    remat: Remat = "none"
    moe: MoeConfig = dataclasses.field(default_factory=lambda: MoeConfig(placement="none"))

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-indexed blocks whose MLP is a mixture of experts."""
        return sparse_blocks(self.moe, self.depth)
