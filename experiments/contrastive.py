"""Contrastive training: the loss of the whole batch of pairs plus the routers' losses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..models import (
    MODALITIES,
    Limoe,
    ModelConfig,
    MoeConfig,
    TwoTower,
    TwoTowerConfig,
    sigmoid_loss,
    softmax_loss,
)
from ..routing import RoutingSums
from ..routing import group_size as divisor_up_to
from .chunking import forward_passes_again, in_chunks
from .config import ContrastiveConfig
from .router_losses import router_losses
from .task import Batch, Params, Parts, Task
from .utilisation import Texts, pair_flops

PairConfig = ModelConfig | TwoTowerConfig


def contrastive_task(config: ContrastiveConfig) -> Task:
    """Images and texts that belong together, embedded by one model."""
    model = pair_model(config.model)
    side, length = config.model.image_size, config.model.text_length

    def blank(rows: int) -> Batch:
        text = jnp.zeros((rows, length), jnp.int32)
        images = jnp.zeros((rows, side, side, 3), jnp.uint8)
        return {"image": images, "text": text, "text_mask": jnp.ones(text.shape, bool)}

    def init(key: Key[Array, ""]) -> Params:
        batch = blank(2)
        params = model.init(key, batch["image"], batch["text"], batch["text_mask"])["params"]
        if config.loss.contrastive == "sigmoid":
            # SigLIP's start: nearly all pairs are negatives (arXiv 2303.15343, section 3.2).
            params["sigmoid_bias"] = jnp.asarray(-10.0)
        return params

    def flops(batch: dict[str, np.ndarray]) -> tuple[float, float]:
        lengths = batch["text_mask"].sum(axis=1, dtype=np.int64)
        texts = Texts(int(lengths.sum()), int((lengths**2).sum()))
        return pair_flops(
            config.model, len(lengths), texts, rematerialised=forward_passes_again(config)
        )

    return Task(
        modalities=MODALITIES,
        seen=modalities_of,
        blank=blank,
        init=init,
        objective=lambda params, batch, key: objective(model, params, batch, key, config),
        routers=lambda block: routing_of(config.model, block),
        flops=flops,
    )


def pair_model(config: PairConfig) -> Limoe | TwoTower:
    """The module of a config: one tower for both, or one for each."""
    return TwoTower(config) if isinstance(config, TwoTowerConfig) else Limoe(config)


def modalities_of(block: str) -> tuple[str, ...]:
    """Whose tokens a sparse block meets, by its name among the results: a tower's, or all."""
    tower, slash, _ = block.partition("/")
    return (tower,) if slash else MODALITIES


def routing_of(config: PairConfig, block: str) -> MoeConfig:
    """The routing of a sparse block, by its name among the results."""
    if isinstance(config, TwoTowerConfig):
        return (config.image if block.startswith("image/") else config.text).moe
    return config.moe


def count_groups(model: PairConfig, batch_size: int, chunks: int) -> int:
    """G, routing groups of a batch: as large as `group_size` allows, of whole examples.

    Groups depend on the config alone, never on chunks or devices, so neither
    changes what is learned. A dense model has no groups; its chunks serve as such.
    """
    if not model.moe_layers:
        return chunks
    if isinstance(model, TwoTowerConfig):
        wished = model.group_examples
    else:
        tokens = (model.image_size // model.patch_size) ** 2 + model.text_length
        wished = max(1, model.moe.group_size // tokens)
    examples = divisor_up_to(batch_size, wished)
    return batch_size // examples


def objective(
    model: Limoe | TwoTower,
    params: Params,
    batch: Batch,
    key: Key[Array, ""] | None,
    config: ContrastiveConfig,
) -> tuple[Float[Array, ""], tuple[Parts, dict[str, RoutingSums]]]:
    """The loss to minimise, with its named parts.

    loss = contrastive + auxiliary · (mean over sparse blocks of the mean over the
    switched-on router losses), as LIMoE averages them (App. B.1).

    Args:
        batch: `image` (B,S,S,3) uint8, `text` (B,N) int32, `text_mask` (B,N) bool.
        key: of the router's noise; None for evaluation's routing.

    Returns:
        the loss, and its parts by name with the routing sums of each sparse block.
    """
    loss_config, chunks = config.loss, config.loss.chunks
    groups = count_groups(config.model, batch["image"].shape[0], chunks)

    def embed(rows: tuple, keys: Array | None, groups: int):
        train = key is not None
        out = model.apply({"params": params}, *rows, groups=groups, train=train, noise_keys=keys)
        scales = jnp.broadcast_to(out.scale, rows[0].shape[:1])  # pyright: ignore
        return (out.image, out.text, scales), out.routing  # pyright: ignore

    rows = (batch["image"], batch["text"], batch["text_mask"])
    (image, text, scales), sums = in_chunks(embed, rows, key, groups, chunks)
    scale = scales[0]
    if loss_config.contrastive == "softmax":
        contrastive = softmax_loss(image, text, scale)
    else:
        contrastive = sigmoid_loss(image, text, scale, params["sigmoid_bias"], chunks=chunks)
    parts = {"loss/contrastive": contrastive, **router_losses(sums, loss_config, MODALITIES)}
    loss = contrastive + loss_config.auxiliary * parts["loss/auxiliary"]
    return loss, (parts | {"loss": loss, "temperature": 1 / scale}, sums)
