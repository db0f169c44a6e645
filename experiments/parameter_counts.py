"""How many parameters a model has, from its config alone: no JAX, no arrays."""

from __future__ import annotations

from ..models.config import ModelConfig


def count_parameters(model: ModelConfig) -> tuple[int, int]:
    """Parameters in all, and those awake for one token.

    Of a sparse block, a token uses its router and K of its E experts; everything else (both
    modalities' embeddings too) counts as awake.

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
    mlp = 2 * width * hidden + hidden + width
    sparse = len(model.moe_layers)
    router = width * model.moe.num_experts
    shared = embeddings + heads + norm + model.depth * (attention + 2 * norm)
    shared += (model.depth - sparse) * mlp + sparse * router
    total = shared + sparse * model.moe.num_experts * mlp
    awake = shared + sparse * model.moe.selected * mlp
    return total, awake


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
