"""Supervised training on labelled images: cross-entropy plus the routers' losses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, UInt8

from ..models import Vmoe, image_groups
from ..routing import RoutingSums
from .chunking import forward_passes_again, in_chunks
from .config import ClassificationConfig
from .router_losses import router_losses
from .task import Batch, Params, Parts, Task
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
        objective=lambda params, batch, key: objective(model, params, batch, key, config),
        routers=lambda _: config.model.moe,
        flops=flops,
    )


def scaled(images: UInt8[Array, "B S S 3"]) -> Float[Array, "B S S 3"]:
    """Pixels from -1 to 1, as V-MoE takes them."""
    return images.astype(jnp.float32) / 127.5 - 1


def objective(
    model: Vmoe,
    params: Params,
    batch: Batch,
    key: Key[Array, ""] | None,
    config: ClassificationConfig,
) -> tuple[Float[Array, ""], tuple[Parts, dict[str, RoutingSums]]]:
    """The loss to minimise: mean softmax cross-entropy + auxiliary · router losses.

    Args:
        batch: `image` (B,S,S,3) uint8 and `label` (B,) int32.
        key: of the router's noise; None for evaluation's routing.

    Returns:
        the loss, and its parts by name (with the batch's `accuracy`) with the routing sums of each
        sparse block.
    """
    chunks = config.loss.chunks
    size = batch["image"].shape[0]
    groups = image_groups(config.model, size) if config.model.moe_layers else chunks

    def classify(images: Array, keys: Array | None, groups: int):
        out = model.apply(
            {"params": params}, scaled(images), train=key is not None, noise_keys=keys
        )
        return out.logits, out.routing  # pyright: ignore

    logits, sums = in_chunks(classify, batch["image"], key, groups, chunks)
    target = jax.nn.one_hot(batch["label"], config.model.num_classes)
    target = optax.smooth_labels(target, config.loss.label_smoothing)
    entropy = jnp.mean(optax.softmax_cross_entropy(logits, target))
    right = jnp.mean(jnp.argmax(logits, axis=-1) == batch["label"])
    parts = {"loss/cross_entropy": entropy, **router_losses(sums, config.loss, IMAGES)}
    loss = entropy + config.loss.auxiliary * parts["loss/auxiliary"]
    return loss, (parts | {"loss": loss, "accuracy": right}, sums)
