"""MFU and HFU: how much of a machine's peak a training step uses (PaLM, arXiv 2204.02311, App. B).

Model FLOPs are those that the model needs: 6 for each parameter that a token meets (2 forward, 4
backward), and 12·L·H·Q·T for attention, whatever the program does to get them. Hardware FLOPs count
all that is computed: what is rematerialised, padding, and slots of experts that stay empty.
"""

from __future__ import annotations

import dataclasses

from ..models import ImageTowerConfig, PalmConfig, TextTowerConfig, TwoTowerConfig, VmoeConfig
from ..models.config import ModelConfig, sparse_blocks

Stack = ModelConfig | VmoeConfig | ImageTowerConfig | TextTowerConfig


def decoder_flops(
    parameters: float,
    depth: int = 0,
    heads: int = 0,
    head_size: int = 0,
    length: int = 0,
) -> float:
    """Training FLOPs of a token: 6N + 12·L·H·Q·T; without the attention where L is 0.

    T is the whole sequence, so that causal masking earns nothing.

    Args:
        parameters: N; of a sparse model those awake for a token.
        depth, heads, head_size, length: L, H, Q, T.

    Examples:
        >>> round(decoder_flops(540.35e9, 118, 48, 256, 2048) / 1e12, 2)
        3.28
    """
    return 6 * parameters + 12 * depth * heads * head_size * length


def rematerialised_flops(
    parameters: float, share: float, depth: int, heads: int, head_size: int, length: int
) -> float:
    """What is computed twice: this share of the parameters' forward pass, and all of attention's.

    Args:
        share: PaLM 540B: 0.75.
        parameters, depth, heads, head_size, length: see `decoder_flops`.
    """
    return share * 2 * parameters + 4 * depth * heads * head_size * length


def utilisation(rate: float, flops: float, peak: float) -> float:
    """The share of the peak that is used.

    Args:
        rate: tokens (or examples, or steps) a second.
        flops: of each.
        peak: FLOP/s of all devices together.

    Raises:
        ValueError: the peak is not above 0.
    """
    if not peak > 0:
        raise ValueError(f"peak={peak}: FLOP/s of all devices together, above 0")
    return rate * flops / peak


@dataclasses.dataclass(frozen=True)
class Texts:
    """How long the texts of some examples are.

    Attributes:
        tokens: sum of their real lengths.
        squares: sum of the squares of these.
    """

    tokens: int
    squares: int


def pair_flops(
    model: ModelConfig | TwoTowerConfig,
    examples: int,
    texts: Texts,
    *,
    rematerialised: int = 0,
) -> tuple[float, float]:
    """Model and hardware FLOPs of training on so many pairs.

    Products only: norms, softmaxes and the contrastive loss are left out. Model FLOPs
    count real tokens, each in the K experts that it chooses, dropped or not; hardware FLOPs
    count text's padding and every slot of a capacity (a dropless layer has none to spare).

    Args:
        model: one tower for both, or one for each.
        examples: pairs.
        texts: of these.
        rematerialised: how often the forward pass is done again.
    """
    image: Stack
    text: Stack
    if isinstance(model, TwoTowerConfig):
        image, text, seen = model.image, model.text, model.image.num_tokens
        whole = model.text.pool == "last"
    else:
        image, text, seen, whole = model, model, (model.image_size // model.patch_size) ** 2, False
    patches = (model.image_size // model.patch_size) ** 2
    rows, longest = examples * model.text_length, examples * model.text_length**2
    # A tower that pools the last place reads padding as it reads words.
    tokens, squares = (rows, longest) if whole else (texts.tokens, texts.squares)
    embed = examples * patches * 3 * model.patch_size**2 * image.width
    embed += examples * model.embed_dim * (image.width + text.width)

    def total(words: int, word_squares: int, filled: bool) -> float:
        found = 6.0 * embed
        parts = ((image, examples * seen, examples * seen**2), (text, words, word_squares))
        for tower, count, square in parts:
            slots = (tower.moe.capacity_factor or 1.0) if filled else 1.0
            found += 6 * count * _block_parameters(tower, slots)
            found += 12 * tower.depth * tower.width * square
        return found

    done = total(rows, longest, True)
    return total(tokens, squares, False), done * (1 + rematerialised / 3)


def vmoe_flops(model: VmoeConfig, images: int, *, rematerialised: int = 0) -> tuple[float, float]:
    """Model and hardware FLOPs of training on so many images; counted as `pair_flops` does."""
    tokens = images * model.num_tokens
    patches = images * model.num_patches * 3 * model.patch_size**2 * model.width
    head = images * model.width * (model.num_classes + model.pre_logits * model.width)
    attention = 12 * model.depth * model.width * images * model.num_tokens**2
    fixed = 6 * (patches + head) + attention
    needed = 6 * tokens * _block_parameters(model, 1.0) + fixed
    factor = model.moe.capacity_factor or 1.0
    done = 6 * tokens * _block_parameters(model, factor) + fixed
    return float(needed), float(done) * (1 + rematerialised / 3)


def palm_flops(
    model: PalmConfig, real: int, laid: int, *, rematerialised: int = 0
) -> tuple[float, float]:
    """Model and hardware FLOPs of training on packed rows, by the paper's 6N + 12·L·H·Q·T a token.

    N counts what a token meets, the table of embeddings once; T is the whole row.

    Args:
        model: the decoder.
        real: tokens that are no padding.
        laid: tokens of the rows, padding too.
        rematerialised: how often the forward pass is done again.
    """
    moe, sparse = model.moe, len(model.moe_layers)
    span = model.heads * model.head_size

    def each(slots: float) -> float:
        fused = 2 * model.width * span + 2 * model.width * model.head_size
        dense = 3 * model.width * model.hidden
        mixed = 2 * model.width * model.hidden * (slots * moe.selected + moe.shared_experts)
        mixed += model.width * moe.routed_experts
        blocks = model.depth * fused + (model.depth - sparse) * dense + sparse * mixed
        return decoder_flops(
            blocks + model.vocab_size * model.width,
            model.depth,
            model.heads,
            model.head_size,
            model.max_length,
        )

    done = laid * each(moe.capacity_factor or 1.0)
    return float(real * each(1.0)), float(done) * (1 + rematerialised / 3)


def _block_parameters(model: Stack, slots: float) -> float:
    """Matrix elements that a token meets in all blocks; `slots` for each expert it chooses."""
    moe, width = model.moe, model.width
    mlp = 2 * width * model.hidden
    sparse = len(sparse_blocks(moe, model.depth))
    each = moe.shared_experts * mlp + width * moe.routed_experts
    if moe.router == "soft":
        # Slots of a group, not choices of a token; its group's tokens pay for them together.
        each += moe.num_experts * moe.soft_slots * (mlp + 2 * width) / moe.group_size
    else:
        each += slots * moe.selected * mlp
    return model.depth * 4 * width**2 + (model.depth - sparse) * mlp + sparse * each
