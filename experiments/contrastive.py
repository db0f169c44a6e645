"""Contrastive training: the loss of the whole batch of pairs plus the routers' losses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

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
from .chunking import forward_passes_again
from .config import ContrastiveConfig
from .objective import Batch, Loss, Objective, Params
from .router_losses import router_losses
from .task import Task
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
        objective=objective(config),
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


def count_groups(model: PairConfig, batch_size: int) -> int:
    """G, routing groups of a batch: as large as `group_size` allows, of whole examples.

    Groups depend on the config alone, never on chunks or devices, so neither changes what is
    learned. A dense model has none: 0.
    """
    if not model.moe_layers:
        return 0
    if isinstance(model, TwoTowerConfig):
        wished = model.group_examples
    else:
        tokens = (model.image_size // model.patch_size) ** 2 + model.text_length
        wished = max(1, model.moe.group_size // tokens)
    examples = divisor_up_to(batch_size, wished)
    return batch_size // examples


def objective(config: ContrastiveConfig) -> Objective:
    """The loss to minimise, with its named parts.

    loss = contrastive + auxiliary · (mean over sparse blocks of the mean over the
    switched-on router losses), as LIMoE averages them (App. B.1).

    Batches have `image` (B,S,S,3) uint8, `text` (B,N) int32, `text_mask` (B,N) bool.
    """
    model, sigmoid = pair_model(config.model), config.loss.contrastive == "sigmoid"

    def read(params: Params, batch: Batch, keys: Array | None, groups: int):
        pairs = batch["image"], batch["text"], batch["text_mask"]
        train = keys is not None
        out = model.apply({"params": params}, *pairs, groups=groups, train=train, noise_keys=keys)
        found = {"image": out.image, "text": out.text, "scale": out.scale}  # pyright: ignore
        if sigmoid:
            found["bias"] = params["sigmoid_bias"]
        size = batch["image"].shape[:1]
        # What is one number stands in every row, since outputs are cut and joined by rows.
        found = {k: v if v.ndim else jnp.broadcast_to(v, size) for k, v in found.items()}
        return found, out.routing  # pyright: ignore

    def loss(found: dict[str, Array], sums: dict[str, RoutingSums]) -> Loss:
        pair, scale = (found["image"], found["text"]), found["scale"][0]
        if sigmoid:
            contrastive = sigmoid_loss(*pair, scale, found["bias"][0], chunks=config.loss.chunks)
        else:
            contrastive = softmax_loss(*pair, scale)
        parts = {"loss/contrastive": contrastive, **router_losses(sums, config.loss, MODALITIES)}
        total = contrastive + config.loss.auxiliary * parts["loss/auxiliary"]
        return total, (parts | {"loss": total, "temperature": 1 / scale}, sums)

    return Objective(lambda size: count_groups(config.model, size), read, loss, config.loss.chunks)
