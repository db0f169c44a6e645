"""Supervised training on labelled images: cross-entropy plus the routers' losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, UInt8

from ..models import Vmoe, image_groups
from ..routing import RoutingSums
from .chunking import forward_passes_again
from .config import ClassificationConfig
from .objective import Batch, Loss, Objective, Params
from .router_losses import router_losses
from .task import Task
from .utilisation import vmoe_flops

IMAGES = ("image",)


def classification_task(config: ClassificationConfig) -> Task:
    """Images with one label each."""
    model = Vmoe(config.model)
    side = config.model.image_size

    def blank(rows: int) -> Batch:
        images = jnp.zeros((rows, side, side, 3), jnp.uint8)
        return {"image": images, "label": jnp.zeros((rows,), jnp.int32)}

    def init(key: Key[Array, ""]) -> Params:
        return model.init(key, scaled(blank(1)["image"]))["params"]

    def flops(batch: dict[str, np.ndarray]) -> tuple[float, float]:
        return vmoe_flops(
            config.model, len(batch["label"]), rematerialised=forward_passes_again(config)
        )

    return Task(
        modalities=IMAGES,
        seen=lambda _: IMAGES,
        blank=blank,
        init=init,
        objective=objective(config),
        routers=lambda _: config.model.moe,
        flops=flops,
    )


def scaled(images: UInt8[Array, "B S S 3"]) -> Float[Array, "B S S 3"]:
    """Pixels from -1 to 1, as V-MoE takes them."""
    return images.astype(jnp.float32) / 127.5 - 1


def objective(config: ClassificationConfig) -> Objective:
    """The loss to minimise: mean softmax cross-entropy + auxiliary · router losses.

    Batches have `image` (B,S,S,3) uint8 and `label` (B,) int32; parts of the loss are named, with
    the batch's `accuracy`.
    """
    model = Vmoe(config.model)

    def groups(size: int) -> int:
        return image_groups(config.model, size) if config.model.moe_layers else 0

    def read(params: Params, batch: Batch, keys: Array | None, groups: int):
        images, train = scaled(batch["image"]), keys is not None
        out: Any = model.apply({"params": params}, images, train=train, noise_keys=keys)
        # As numbers of each row, so that its gradient needs nothing of others.
        target = jax.nn.one_hot(batch["label"], config.model.num_classes)
        target = optax.smooth_labels(target, config.loss.label_smoothing)
        entropy = optax.softmax_cross_entropy(out.logits, target)
        right = jnp.argmax(out.logits, axis=-1) == batch["label"]
        return (entropy, right.astype(jnp.float32)), out.routing

    def loss(found: tuple[Array, Array], sums: dict[str, RoutingSums]) -> Loss:
        entropy, right = map(jnp.mean, found)
        parts = {"loss/cross_entropy": entropy, **router_losses(sums, config.loss, IMAGES)}
        total = entropy + config.loss.auxiliary * parts["loss/auxiliary"]
        return total, (parts | {"loss": total, "accuracy": right}, sums)

    return Objective(groups, read, loss, config.loss.chunks)
