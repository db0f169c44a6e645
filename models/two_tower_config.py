"""Contrastive models with an encoder per modality, as data; CLIP and SigLIP among them."""

from __future__ import annotations

import dataclasses
from typing import Literal

from .config import Activation, MoeConfig, Remat, StackConfig

ImagePool = Literal["gap", "token", "map"]
TextPool = Literal["mean", "end", "last"]
TowerProjection = Literal["linear", "affine", "none"]
_DENSE = MoeConfig(placement="none")


@dataclasses.dataclass(frozen=True)
class ImageTowerConfig:
    """The encoder of images.

    Attributes:
        image_size, patch_size: pixels; what fills no patch, to the right and below, is not read
            (SigLIP's 384 by 14).
        width, hidden, depth, heads: D, H, L and attention heads (D divides by heads).
        mean, std: uint8 pixels enter as (pixel / 255 - mean) / std, by channel. The default is
            LIMoE's ink, (255 - pixel) / 127.5: empty white paper is zero. Float images are
            taken as they are.
        patch_bias: the patch embedding has a bias (CLIP: none).
        pre_norm: a LayerNorm before the first block (CLIP).
        pool: the mean of all tokens (`gap`), a class `token` (CLIP), or an attention pooling
            (`map`, SigLIP).
        projection: to the common space: `linear`, `affine` (with a bias), or `none`, for which
            D must be the common space's width.
        activation: of the MLPs, the experts among them.
        epsilon: of the LayerNorms.
        moe: the sparse blocks.
    """

    image_size: int = 32
    patch_size: int = 8
    width: int = 96
    hidden: int = 384
    depth: int = 4
    heads: int = 3
    mean: tuple[float, ...] = (1.0, 1.0, 1.0)
    std: tuple[float, ...] = (-0.5, -0.5, -0.5)
    patch_bias: bool = True
    pre_norm: bool = False
    pool: ImagePool = "gap"
    projection: TowerProjection = "linear"
    activation: Activation = "gelu_tanh"
    epsilon: float = 1e-6
    moe: MoeConfig = _DENSE

    @property
    def num_tokens(self) -> int:
        """Tokens of an image: its patches, and the class token where there is one."""
        return (self.image_size // self.patch_size) ** 2 + (self.pool == "token")


@dataclasses.dataclass(frozen=True)
class TextTowerConfig:
    """The encoder of texts.

    Attributes:
        text_length: text tokens N_t, padding included.
        vocab_size: pieces of the tokenizer.
        width, hidden, depth, heads: D, H, L and attention heads (D divides by heads).
        causal: tokens attend to those before them alone (CLIP). At evaluation the routers of such
            a tower may not look ahead either.
        pool: `mean`: of the real tokens. `end`: the last real one (CLIP's end of text). `last`:
            the last of the N_t places, padding or not (SigLIP): padding then counts as real, in
            attention and in routing.
        projection: to the common space: `linear`, `affine` (with a bias), or `none`, for which
            D must be the common space's width.
        activation: of the MLPs, the experts among them.
        epsilon: of the LayerNorms.
        moe: the sparse blocks.
    """

    text_length: int = 12
    vocab_size: int = 2048
    width: int = 96
    hidden: int = 384
    depth: int = 4
    heads: int = 3
    causal: bool = False
    pool: TextPool = "mean"
    projection: TowerProjection = "linear"
    activation: Activation = "gelu_tanh"
    epsilon: float = 1e-6
    moe: MoeConfig = _DENSE


@dataclasses.dataclass(frozen=True)
class TwoTowerConfig:
    """Two encoders and a temperature.

    Attributes:
        image: the encoder of images.
        text: the encoder of texts.
        embed_dim: F, size of the common space.
        initial_temperature: the learned temperature's start (logits = cosine / temperature).
        max_scale: the inverse temperature never counts as more than this (CLIP: 100), though its
            gradient goes on (`capped_scale`); None is no bound (SigLIP).
        dtype: of activations and matrix products; parameters are always float32.
        scan, remat: of the blocks of both towers; see `StackConfig`.
    """

    image: ImageTowerConfig = dataclasses.field(default_factory=ImageTowerConfig)
    text: TextTowerConfig = dataclasses.field(default_factory=TextTowerConfig)
    embed_dim: int = 96
    initial_temperature: float = 0.1
    max_scale: float | None = 100.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False
    remat: Remat = "none"

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        return self.image.image_size

    @property
    def patch_size(self) -> int:
        """Pixels of a patch's side."""
        return self.image.patch_size

    @property
    def text_length(self) -> int:
        """N_t."""
        return self.text.text_length

    @property
    def vocab_size(self) -> int:
        """Pieces of the tokenizer."""
        return self.text.vocab_size

    @property
    def image_stack(self) -> StackConfig:
        """The blocks of the image tower."""
        c = self.image
        side = c.image_size // c.patch_size
        return StackConfig(
            c.width,
            c.hidden,
            c.depth,
            c.heads,
            c.moe,
            self.dtype,
            c.num_tokens,
            (side, side),
            "learned",
            pre_norm=c.pre_norm,
            activation=c.activation,
            epsilon=c.epsilon,
            scan=self.scan,
            remat=self.remat,
        )

    @property
    def text_stack(self) -> StackConfig:
        """The blocks of the text tower."""
        c = self.text
        return StackConfig(
            c.width,
            c.hidden,
            c.depth,
            c.heads,
            c.moe,
            self.dtype,
            c.text_length,
            positions="learned",
            activation=c.activation,
            epsilon=c.epsilon,
            scan=self.scan,
            remat=self.remat,
        )

    @property
    def moe_layers(self) -> tuple[str, ...]:
        """Names of the blocks whose MLP is a mixture of experts, as in the routing's results."""
        stacks = {"image": self.image_stack, "text": self.text_stack}
        return tuple(
            f"{tower}/encoderblock_{index}"
            for tower, stack in stacks.items()
            for index in stack.moe_layers
        )

    @property
    def group_examples(self) -> int:
        """Pairs whose tokens fit the wished groups of every sparse tower; at least one."""
        lengths = ((self.image.moe, self.image.num_tokens), (self.text.moe, self.text_length))
        wishes = [moe.group_size // n for moe, n in lengths if moe.placement != "none"]
        return max(1, min(wishes, default=1))
