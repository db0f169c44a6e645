"""What a model is, as data: frozen dataclasses that import neither JAX nor Flax."""

from __future__ import annotations

import dataclasses
from typing import Literal

Placement = Literal["every", "last", "none"]


@dataclasses.dataclass(frozen=True)
class MoeConfig:
    """The sparse layers of a stack.

    Attributes:
        placement: `every`: blocks n-1, 2n-1, ...; `last`: the last n odd blocks;
            `none`: no sparse block, which makes the dense twin.
        n: the n of the placement.
        num_experts: E.
        selected: K, experts chosen per token.
        capacity_factor: C over its even share, in training.
        eval_capacity_factor: the same at evaluation; None is dropless.
        group_size: wished T, tokens that compete for one set of buffers; the largest
            divisor of the batch's tokens that is not above it is taken.
        batch_priority: fill the buffers by descending gate (V-MoE's BPR), over all
            modalities together, rather than in token order.
        noise_std: router noise in training, in units of 1/E (added to logits).
        router: the routing rule.
        dispatcher: how tokens travel with a capacity; dropless evaluation uses `blocked`.
    """

    placement: Placement = "every"
    n: int = 2
    num_experts: int = 8
    selected: int = 1
    capacity_factor: float = 1.25
    eval_capacity_factor: float | None = None
    group_size: int = 4096
    batch_priority: bool = True
    noise_std: float = 1.0
    router: Literal["top_k"] = "top_k"
    dispatcher: Literal["index", "einsum"] = "index"


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
    moe: MoeConfig = dataclasses.field(default_factory=MoeConfig)

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """0-indexed blocks whose MLP is a mixture of experts."""
        n = self.moe.n
        if self.moe.placement == "none":
            return ()
        if self.moe.placement == "every":
            return tuple(range(n - 1, self.depth, n))
        odd = range(1, self.depth, 2)
        return tuple(odd[len(odd) - n :])
