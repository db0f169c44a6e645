"""Vision models that classify, as data: ViT, V-MoE, and their soft and expert-choice kin."""

from __future__ import annotations

import dataclasses
from typing import Literal

from .config import MoeConfig, Positions, Remat, StackConfig, sparse_blocks

Classifier = Literal["token", "gap", "map"]


@dataclasses.dataclass(frozen=True)
class VmoeConfig:
    """A V-MoE (Riquelme et al., arXiv 2106.05974), or with no sparse blocks a ViT.

    Attributes:
        image_size, patch_size: pixels; the image must divide into patches.
        width, hidden, depth, heads: D, H, L and attention heads (D divides by heads).
        num_classes: of the head; 0 leaves it out, and the outputs are features.
        classifier: what the head reads: a class `token`, the mean of all (`gap`, global average
            pooling), or an attention pooling (`map`).
        positions: learned, fixed sines and cosines of both coordinates, or none.
        pre_logits: a D×D layer with tanh before the head.
        head_bias: where the head's bias begins (V-MoE's JFT models: -10).
        qk_norm: LayerNorm over each head's queries and keys.
        dtype: of activations and matrix products; parameters are always float32.
        scan, remat: how the blocks are traced, and what is kept for the backward pass; see
            `StackConfig`.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    hidden: int = 3072
    depth: int = 12
    heads: int = 12
    num_classes: int = 1000
    classifier: Classifier = "token"
    positions: Positions = "learned"
    pre_logits: bool = False
    head_bias: float = 0.0
    qk_norm: bool = False
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False
    remat: Remat = "none"
    moe: MoeConfig = dataclasses.field(default_factory=MoeConfig)

    @property
    def stack(self) -> StackConfig:
        """The blocks."""
        side = self.image_size // self.patch_size
        return StackConfig(
            self.width,
            self.hidden,
            self.depth,
            self.heads,
            self.moe,
            self.dtype,
            self.num_tokens,
            (side, side),
            self.positions,
            qk_norm=self.qk_norm,
            scan=self.scan,
            remat=self.remat,
        )

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-indexed blocks whose MLP is a mixture of experts."""
        return sparse_blocks(self.moe, self.depth)

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_tokens(self) -> int:
        """Tokens of an image: its patches, and the class token where there is one."""
        return self.num_patches + (self.classifier == "token")
