"""What a model is, as data: frozen dataclasses that import neither JAX nor Flax."""

from __future__ import annotations

import dataclasses
from typing import Literal

Placement = Literal["every", "last", "final", "none"]
Dispatcher = Literal["index", "einsum", "blocked", "grouped", "expert_parallel", "pathways"]
Router = Literal["top_k", "switch", "gshard", "sigmoid", "hash", "random", "expert_choice", "soft"]
Positions = Literal["learned", "sincos2d", "none"]
Remat = Literal["none", "blocks"]
Activation = Literal["gelu_tanh", "gelu", "quick_gelu"]


@dataclasses.dataclass(frozen=True)
class MoeConfig:
    """The sparse layers of a stack.

    Attributes:
        placement: `every`: blocks n-1, 2n-1, ...; `last`: the last n odd blocks, or all (V-MoE);
            `final`: the last n, odd and even (Soft MoE); `none`: no sparse block, which makes the
            dense twin.
        n: the n of the placement.
        num_experts: E.
        selected: K, experts chosen per token. For expert choice K * capacity_factor is the
            average number of experts that take a token; soft routing has no K.
        eval_selected: K at evaluation; None is the same.
        capacity_factor: C over its even share, in training; None is dropless.
        eval_capacity_factor: the same at evaluation; None is dropless (expert choice and soft
            routing, which have no such form, keep the training's).
        capacity_multiple_of: C is rounded up to a multiple of this (V-MoE's code: 4).
        group_size: wished T, tokens that compete for one set of buffers; the largest
            divisor of the batch's tokens that is not above it is taken.
        batch_priority: fill the buffers by descending gate (V-MoE's BPR), over all
            modalities together, rather than in token order; of `top_k` and `sigmoid`.
        priority: what batch priority sorts by: the largest of a token's gates, or their sum.
        noise_std: router noise in training, in units of 1/E (added to logits).
        router: the routing rule (docs/routing.md).
        bias: loss-free balancing of `top_k` or `sigmoid`: after each step the trainer moves a
            bias per expert, by `sign` or `z_score`, that takes part in the choice alone.
        bias_rate: how far.
        renormalize: divide a token's chosen gates by their sum, with K > 1; of `top_k` (whose
            own way, None, is not to) and `sigmoid` (which does).
        task: the modality enters the gate as a learned embedding: `added` to the token's logits,
            or `alone`, so that all tokens of a modality meet the same K experts.
        shared_experts: experts of H that every token meets besides, outside all routing.
        granularity: each of the E experts is cut into so many, of H over this, and a token
            chooses so many times K (fine-grained experts; the same FLOPs per token).
        soft_slots: slots of each expert and group in soft routing.
        dispatcher: how tokens travel (docs/dispatchers.md). `index` and `einsum` need a capacity:
            where there is none `blocked` takes their place. `expert_parallel` needs a mesh
            with an axis `expert` (`jax.set_mesh`).
        kept_experts: of a pathway cut out of a model (`byways export --modality`), the experts that
            are left, counted through the sparse blocks: i*E + e is expert e of the i-th (E with
            the granularity). Nothing is all of them, as in every model that is trained.
    """

    placement: Placement = "every"
    n: int = 2
    num_experts: int = 8
    selected: int = 1
    eval_selected: int | None = None
    capacity_factor: float | None = 1.25
    eval_capacity_factor: float | None = None
    capacity_multiple_of: int = 1
    group_size: int = 4096
    batch_priority: bool = True
    priority: Literal["max", "sum"] = "max"
    noise_std: float = 1.0
    router: Router = "top_k"
    bias: Literal["none", "sign", "z_score"] = "none"
    bias_rate: float = 0.001
    renormalize: bool | None = None
    task: Literal["none", "added", "alone"] = "none"
    shared_experts: int = 0
    granularity: int = 1
    soft_slots: int = 1
    dispatcher: Dispatcher = "index"
    kept_experts: tuple[int, ...] = ()

    @property
    def routed_experts(self) -> int:
        """Experts that the router knows: E times the granularity."""
        return self.num_experts * self.granularity

    @property
    def chosen(self) -> int:
        """Experts that a token chooses in training: K times the granularity."""
        return self.selected * self.granularity

    @property
    def eval_chosen(self) -> int:
        """The same at evaluation."""
        return (self.eval_selected or self.selected) * self.granularity

    def kept_in(self, block: int) -> tuple[int, ...] | None:
        """The experts left in the so-manieth sparse block, of 0..E-1; None is all."""
        if not self.kept_experts:
            return None
        first = block * self.routed_experts
        found = (number - first for number in self.kept_experts)
        return tuple(number for number in found if 0 <= number < self.routed_experts)


@dataclasses.dataclass(frozen=True)
class StackConfig:
    """A stack of Transformer blocks: what `Encoder` reads of any model's config.

    Attributes:
        width, hidden, depth, heads: D, H, L and attention heads.
        moe: the sparse blocks.
        dtype: of activations.
        num_tokens: of a sequence, where the stack adds positions to its tokens.
        grid: rows and columns of patches, the last tokens of a sequence.
        positions: `none` where what embeds the tokens has added its own.
        pre_norm: a LayerNorm before the first block (CLIP's images).
        activation: of the MLPs, the experts among them.
        epsilon: of the LayerNorms.
        qk_norm: LayerNorm over each head's queries and keys.
        scan: trace and compile one block of each run of equal ones, whatever the depth: the same
            function of the same parameters (docs/models.md).
        remat: `blocks` keeps only what enters each block, and computes the rest again in the
            backward pass.
    """

    width: int
    hidden: int
    depth: int
    heads: int
    moe: MoeConfig
    dtype: Literal["float32", "bfloat16"] = "float32"
    num_tokens: int = 0
    grid: tuple[int, int] = (0, 0)
    positions: Positions = "none"
    pre_norm: bool = False
    activation: Activation = "gelu_tanh"
    epsilon: float = 1e-6
    qk_norm: bool = False
    scan: bool = False
    remat: Remat = "none"

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-indexed blocks whose MLP is a mixture of experts."""
        return sparse_blocks(self.moe, self.depth)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A LIMoE tower: one stack for all modalities.

    Attributes:
        image_size, patch_size: pixels; the image must divide into patches.
        width, hidden, depth, heads: D, H, L and attention heads (D divides by heads).
        text_length: text tokens N_t, padding included.
        vocab_size: pieces of the tokenizer.
        embed_dim: size of the common space of both modalities.
        initial_temperature: the learned temperature's start (logits = cosine / temperature).
        dtype: of activations and matrix products; parameters are always float32.
        scan, remat: how the blocks are traced, and what is kept for the backward pass; see
            `StackConfig`.
    """

    image_size: int = 32
    patch_size: int = 8
    width: int = 96
    hidden: int = 384
    depth: int = 4
    heads: int = 3
    text_length: int = 12
    vocab_size: int = 2048
    embed_dim: int = 96
    initial_temperature: float = 0.1
    dtype: Literal["float32", "bfloat16"] = "float32"
    scan: bool = False
    remat: Remat = "none"
    moe: MoeConfig = dataclasses.field(default_factory=MoeConfig)

    @property
    def stack(self) -> StackConfig:
        """The blocks."""
        return StackConfig(
            self.width,
            self.hidden,
            self.depth,
            self.heads,
            self.moe,
            self.dtype,
            scan=self.scan,
            remat=self.remat,
        )

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-indexed blocks whose MLP is a mixture of experts."""
        return sparse_blocks(self.moe, self.depth)

    @property
    def pathways(self) -> bool:
        """Its experts, and each modality's own work, can be lowered as conditional."""
        return bool(self.moe_layers) and self.moe.dispatcher == "pathways"


def sparse_blocks(moe: MoeConfig, depth: int) -> tuple[int, ...]:
    """0-indexed blocks of a stack of L whose MLP is a mixture of experts."""
    if moe.placement == "none":
        return ()
    if moe.placement == "every":
        return tuple(range(moe.n - 1, depth, moe.n))
    if moe.placement == "final":
        return tuple(range(max(depth - moe.n, 0), depth))
    odd = range(1, depth, 2)
    return tuple(odd[max(len(odd) - moe.n, 0) :])
