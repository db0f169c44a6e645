"""The training objective: the contrastive loss of the whole batch plus the routers' losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..models import MODALITIES, Limoe, ModelConfig, sigmoid_loss, softmax_loss
from ..routing import RoutingSums, auxiliary_losses
from ..routing import group_size as divisor_up_to
from .config import ExperimentConfig, LossConfig

Params = Any
Batch = dict[str, Array]


def count_groups(model: ModelConfig, batch_size: int, chunks: int) -> int:
    """G, routing groups of a batch: as large as `group_size` allows, of whole examples.

    Groups depend on the config alone, never on chunks or devices, so neither
    changes what is learned. A dense model has no groups; its chunks serve as such.
    """
    if not model.moe_layers:
        return chunks
    tokens = (model.image_size // model.patch_size) ** 2 + model.text_length
    examples = divisor_up_to(batch_size, max(1, model.moe.group_size // tokens))
    return batch_size // examples


def embed_in_chunks(
    model: Limoe, params: Params, batch: Batch, key: Key[Array, ""] | None, groups: int, chunks: int
) -> tuple[Array, Array, Array, dict[str, RoutingSums]]:
    """Embeds a training batch in rematerialised chunks of whole groups.

    The result and its gradient do not depend on `chunks` (to rounding); the activations
    alive at once do. Chunk c takes the groups c, c + chunks, …, so that a batch
    sharded over devices has a part of every chunk on every device.

    Args:
        batch: `image` (B,S,S,3) uint8, `text` (B,N) int32, `text_mask` (B,N) bool.
        key: of the router's noise, one stream per group; None for evaluation's routing.
        groups: G.
        chunks: a divisor of G.

    Returns:
        image (B, F), text (B, F), scale, and the routing sums of each sparse block.
    """
    size = batch["image"].shape[0] // groups
    keys = None if key is None else jax.random.split(key, groups)
    rows = (batch["image"], batch["text"], batch["text_mask"])

    def embed(rows: tuple, keys: Array | None, groups: int):
        out = model.apply(
            {"params": params}, *rows, groups=groups, train=key is not None, noise_keys=keys
        )
        return out.image, out.text, out.scale, out.routing  # pyright: ignore

    if chunks == 1:
        return embed(rows, keys, groups)

    each = groups // chunks

    def apart(x: Array) -> Array:
        grouped = x.reshape(each, chunks, size, *x.shape[1:])
        return grouped.swapaxes(0, 1).reshape(chunks, each * size, *x.shape[1:])

    def together(x: Array) -> Array:
        grouped = x.reshape(chunks, each, size, *x.shape[2:])
        return grouped.swapaxes(0, 1).reshape(chunks * each * size, *x.shape[2:])

    if keys is not None:
        keys = keys.reshape(each, chunks).swapaxes(0, 1)
    parts = (jax.tree.map(apart, rows), keys)
    one = jax.checkpoint(lambda part: embed(part[0], part[1], each))
    image, text, scale, sums = jax.lax.map(one, parts)
    # The sums of a whole are the sums of its parts: losses made of them are exact.
    merged = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), sums)
    return together(image), together(text), scale[0], merged


def objective(
    model: Limoe,
    params: Params,
    batch: Batch,
    key: Key[Array, ""],
    config: ExperimentConfig,
) -> tuple[Float[Array, ""], tuple[dict[str, Array], dict[str, RoutingSums]]]:
    """The loss to minimise, with its named parts.

    loss = contrastive + auxiliary · (mean over sparse blocks of the mean over the
    switched-on router losses), as LIMoE averages them (App. B.1).

    Returns:
        the loss, and its parts by name with the routing sums of each sparse block.
    """
    chunks, loss_config = config.loss.chunks, config.loss
    groups = count_groups(config.model, batch["image"].shape[0], chunks)
    image, text, scale, sums = embed_in_chunks(model, params, batch, key, groups, chunks)
    if loss_config.contrastive == "softmax":
        contrastive = softmax_loss(image, text, scale)
    else:
        contrastive = sigmoid_loss(image, text, scale, params["sigmoid_bias"], chunks=chunks)
    parts: dict[str, Array] = {"loss/contrastive": contrastive}
    layers = [layer_losses(layer, loss_config) for layer in sums.values()]
    auxiliary = zero = jnp.zeros(())
    if layers and layers[0]:
        for name in layers[0]:
            parts[f"loss/{name}"] = sum((layer[name] for layer in layers), zero) / len(layers)
        auxiliary = sum((parts[f"loss/{name}"] for name in layers[0]), zero) / len(layers[0])
    loss = contrastive + loss_config.auxiliary * auxiliary
    parts |= {"loss": loss, "loss/auxiliary": auxiliary, "temperature": 1 / scale}
    return loss, (parts, sums)


def layer_losses(sums: RoutingSums, config: LossConfig) -> dict[str, Array]:
    """The router losses of one block that the config switches on, by name, unweighted."""
    thresholds = {"image": config.threshold_image, "text": config.threshold_text}
    return auxiliary_losses(
        sums,
        MODALITIES,
        importance=config.importance,
        load=config.load,
        z=config.z,
        switch=config.switch,
        gshard=config.gshard,
        scope=config.scope,
        local=config.local,
        thresholds=thresholds,
    )
