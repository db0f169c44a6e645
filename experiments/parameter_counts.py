"""How many parameters a model has, from its config alone: no JAX, no arrays."""

from __future__ import annotations

from ..models.config import ModelConfig


def count_parameters(model: ModelConfig) -> tuple[int, int]:
    """Parameters in all, and those awake for one token.

    Of a sparse block, a token uses its router, K of its E experts and those that are shared;
    everything else (both modalities' embeddings too) counts as awake, as do all experts of soft
    routing.

    Examples:
        >>> from byways.experiments.presets import preset
        >>> total, awake = count_parameters(preset("limoe_b16").model)
        >>> total > 5 * awake
        True
    """
    width, hidden = model.width, model.hidden
    patches = (model.image_size // model.patch_size) ** 2
    embeddings = 3 * model.patch_size**2 * width + width  # patches, with bias
    embeddings += (patches + model.text_length) * width  # positions
    embeddings += model.vocab_size * width  # pieces
    heads = 2 * width * model.embed_dim + 1  # a projection per modality, and the temperature
    norm = 2 * width
    attention = 4 * (width * width + width)
    mlp = _mlp(width, hidden)
    sparse, moe = len(model.moe_layers), model.moe
    shared = embeddings + heads + norm + model.depth * (attention + 2 * norm)
    shared += (model.depth - sparse) * mlp
    if not sparse:
        return shared, shared
    shared += sparse * _router(model)
    if moe.shared_experts:
        shared += sparse * _mlp(width, moe.shared_experts * hidden)
    expert = _mlp(width, hidden // moe.granularity)
    total = shared + sparse * moe.routed_experts * expert
    awake = moe.routed_experts if moe.router == "soft" else moe.eval_chosen
    return total, shared + sparse * awake * expert


def _mlp(width: int, hidden: int) -> int:
    return 2 * width * hidden + hidden + width


def _router(model: ModelConfig) -> int:
    moe = model.moe
    experts = moe.routed_experts
    if moe.router in ("hash", "random"):
        return 0
    if moe.router == "soft":
        return model.width * experts * moe.soft_slots + 1
    kernel = 0 if moe.task == "alone" else model.width * experts
    tasks = 0 if moe.task == "none" else 2 * experts  # a row of logits for each modality
    return kernel + tasks + (0 if moe.bias == "none" else experts)


def short(count: int) -> str:
    """A count for people.

    Examples:
        >>> short(631_000), short(979_000_000), short(5_550_000_000)
        ('0.631 M', '979 M', '5.55 B')
    """
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if count >= size or unit == "M":
            return f"{float(f'{count / size:.3g}'):g} {unit}"
    raise AssertionError(count)
