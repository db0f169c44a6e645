"""MFU and HFU: how much of a machine's peak a training step uses (PaLM, arXiv 2204.02311, App. B).

Model FLOPs are those that the model needs: 6 for each parameter that a token meets (2 forward, 4
backward), and 12·L·H·Q·T for attention, whatever the program does to get them. Hardware FLOPs count
all that is computed: what is rematerialised, padding, and slots of experts that stay empty.
"""

from __future__ import annotations

import dataclasses

from ..models.config import ModelConfig


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


def limoe_flops(
    model: ModelConfig, examples: int, texts: Texts, *, rematerialised: bool = False
) -> tuple[float, float]:
    """Model and hardware FLOPs of training on so many pairs.

    Products only: norms, softmaxes and the contrastive loss are left out. Model FLOPs
    count real tokens, each in the K experts that it chooses, dropped or not; hardware FLOPs
    count text's padding and every slot of a capacity (a dropless layer has none to spare).

    Args:
        model: the tower.
        examples: pairs.
        texts: of these.
        rematerialised: the forward pass is done twice.
    """
    patches = (model.image_size // model.patch_size) ** 2
    real = examples * patches + texts.tokens
    laid = examples * (patches + model.text_length)
    squares = examples * patches**2 + texts.squares
    all_squares = examples * (patches**2 + model.text_length**2)
    embed = examples * (patches * 3 * model.patch_size**2 + 2 * model.embed_dim) * model.width
    attention = 12 * model.depth * model.width
    needed = 6 * (real * _block_parameters(model, 1.0) + embed) + attention * squares
    factor = model.moe.capacity_factor or 1.0
    done = 6 * (laid * _block_parameters(model, factor) + embed) + attention * all_squares
    return float(needed), float(done) * (4 / 3 if rematerialised else 1)


def _block_parameters(model: ModelConfig, slots: float) -> float:
    """Matrix elements that a token meets in all blocks; `slots` for each expert it chooses."""
    moe, width = model.moe, model.width
    mlp = 2 * width * model.hidden
    sparse = len(model.moe_layers)
    each = moe.shared_experts * mlp + width * moe.routed_experts
    if moe.router == "soft":
        # Slots of a group, not choices of a token; its group's tokens pay for them together.
        each += moe.num_experts * moe.soft_slots * (mlp + 2 * width) / moe.group_size
    else:
        each += slots * moe.selected * mlp
    return model.depth * 4 * width**2 + (model.depth - sparse) * mlp + sparse * each
