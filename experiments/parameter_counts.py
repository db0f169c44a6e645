"""How many parameters a model has, from its config alone: no JAX, no arrays."""

from __future__ import annotations

from typing import Any

from ..models import ImageTowerConfig, PalmConfig, TwoTowerConfig, VmoeConfig
from ..models.config import ModelConfig, MoeConfig, sparse_blocks

Counts = tuple[int, int]


def count_parameters(model: ModelConfig | TwoTowerConfig | VmoeConfig | PalmConfig) -> Counts:
    """Parameters in all, and those awake for one token.

    Of a sparse block, a token uses its router, K of its E experts and those that are shared;
    everything else (all modalities' embeddings too) counts as awake, as do all experts of soft
    routing.

    Examples:
        >>> from byways.experiments.presets import preset
        >>> total, awake = count_parameters(preset("limoe_b16").model)
        >>> total > 5 * awake
        True
    """
    if isinstance(model, TwoTowerConfig):
        image, text = _image_tower(model.image, model.embed_dim), _text_tower(model)
        return image[0] + text[0] + 1, image[1] + text[1] + 1
    if isinstance(model, PalmConfig):
        return _palm(model)
    blocks = _blocks(model, tasks=1 if isinstance(model, VmoeConfig) else 2)
    around = _vmoe_around(model) if isinstance(model, VmoeConfig) else _limoe_around(model)
    return blocks[0] + around, blocks[1] + around


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


def _limoe_around(model: ModelConfig) -> int:
    width = model.width
    patches = (model.image_size // model.patch_size) ** 2
    embeddings = 3 * model.patch_size**2 * width + width  # patches, with bias
    embeddings += (patches + model.text_length) * width  # positions
    embeddings += model.vocab_size * width  # pieces
    return embeddings + 2 * width * model.embed_dim + 1  # projections, and the temperature


def _vmoe_around(model: VmoeConfig) -> int:
    width = model.width
    count = 3 * model.patch_size**2 * width + width
    count += width if model.classifier == "token" else 0
    count += model.num_tokens * width if model.positions == "learned" else 0
    count += _pooling(width, model.hidden) if model.classifier == "map" else 0
    count += width * width + width if model.pre_logits else 0
    count += (width + 1) * model.num_classes
    scales = 2 * (width // model.heads)  # queries' and keys'
    return count + (model.depth * scales if model.qk_norm else 0)


def _image_tower(tower: ImageTowerConfig, embed_dim: int) -> Counts:
    width = tower.width
    count = (3 * tower.patch_size**2 + tower.patch_bias + tower.num_tokens) * width
    count += width if tower.pool == "token" else 0
    count += 2 * width if tower.pre_norm else 0
    count += _pooling(width, tower.hidden) if tower.pool == "map" else 0
    count += _projection(width, embed_dim, tower.projection)
    blocks = _blocks(tower, tasks=2)
    return blocks[0] + count, blocks[1] + count


def _text_tower(model: TwoTowerConfig) -> Counts:
    tower = model.text
    count = (tower.vocab_size + tower.text_length) * tower.width
    count += _projection(tower.width, model.embed_dim, tower.projection)
    blocks = _blocks(tower, tasks=2)
    return blocks[0] + count, blocks[1] + count


def _palm(model: PalmConfig) -> Counts:
    width, moe = model.width, model.moe
    sparse = len(model.moe_layers)
    attention = 2 * width * model.heads * model.head_size + 2 * width * model.head_size
    count = model.vocab_size * width + width + model.depth * (attention + width)
    count += (model.depth - sparse) * 3 * width * model.hidden
    mixed = _mixture(moe, width, model.hidden, 1)
    return count + sparse * mixed[0], count + sparse * mixed[1]


def _blocks(stack: Any, tasks: int) -> Counts:
    """A stack's blocks and its last norm."""
    width, hidden, moe = stack.width, stack.hidden, stack.moe
    sparse = len(sparse_blocks(moe, stack.depth))
    norm, attention = 2 * width, 4 * (width * width + width)
    count = norm + stack.depth * (attention + 2 * norm)
    count += (stack.depth - sparse) * _mlp(width, hidden)
    mixed = _mixture(moe, width, hidden, tasks)
    return count + sparse * mixed[0], count + sparse * mixed[1]


def _mixture(moe: MoeConfig, width: int, hidden: int, tasks: int) -> Counts:
    fixed = _router(moe, width, tasks)
    if moe.shared_experts:
        fixed += _mlp(width, moe.shared_experts * hidden)
    expert = _mlp(width, hidden // moe.granularity)
    awake = moe.routed_experts if moe.router == "soft" else moe.eval_chosen
    return fixed + moe.routed_experts * expert, fixed + awake * expert


def _router(moe: MoeConfig, width: int, tasks: int) -> int:
    experts = moe.routed_experts
    if moe.router in ("hash", "random"):
        return 0
    if moe.router == "soft":
        return width * experts * moe.soft_slots + 1
    kernel = 0 if moe.task == "alone" else width * experts
    rows = 0 if moe.task == "none" else tasks * experts  # a row of logits for each modality
    return kernel + rows + (0 if moe.bias == "none" else experts)


def _mlp(width: int, hidden: int) -> int:
    return 2 * width * hidden + hidden + width


def _pooling(width: int, hidden: int) -> int:
    """A probe, attention, a norm, an MLP."""
    return width + 4 * (width * width + width) + 2 * width + _mlp(width, hidden)


def _projection(width: int, embed_dim: int, kind: str) -> int:
    return {"none": 0, "linear": width * embed_dim, "affine": (width + 1) * embed_dim}[kind]
