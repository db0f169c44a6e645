"""Training of a decoder on packed text: PaLM's loss plus the routers' losses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ..models import Palm, row_losses, sequence_groups
from ..routing import RoutingSums
from .chunking import forward_passes_again, in_chunks
from .config import LanguageConfig
from .router_losses import router_losses
from .task import Batch, Params, Parts, Task
from .utilisation import palm_flops

TEXT = ("text",)


def language_task(config: LanguageConfig) -> Task:
    """Rows of tokens, of which each is to be foretold from those before it."""
    model = Palm(config.model)
    length = config.model.max_length

    def blank(rows: int) -> Batch:
        tokens = jnp.zeros((rows, length), jnp.int32)
        return {"tokens": tokens, "segments": jnp.ones_like(tokens)}

    def init(key: Key[Array, ""]) -> Params:
        return model.init(key, blank(1)["tokens"])["params"]

    def flops(batch: dict[str, np.ndarray]) -> tuple[float, float]:
        real = int((batch["segments"] > 0).sum())
        laid = batch["tokens"].size
        return palm_flops(config.model, real, laid, rematerialised=forward_passes_again(config))

    return Task(
        modalities=TEXT,
        seen=lambda _: TEXT,
        blank=blank,
        init=init,
        objective=lambda params, batch, key: objective(model, params, batch, key, config),
        routers=lambda _: config.model.moe,
        flops=flops,
    )


def objective(
    model: Palm,
    params: Params,
    batch: Batch,
    key: Key[Array, ""] | None,
    config: LanguageConfig,
) -> tuple[Float[Array, ""], tuple[Parts, dict[str, RoutingSums]]]:
    """The loss to minimise: per target, -log p + z_loss · log² Z; and the router losses.

    Args:
        batch: `tokens` and `segments` (B, N) int32.
        key: of the router's noise; None for evaluation's routing.

    Returns:
        the loss, and its parts by name (`loss/cross_entropy` in nats a target) with the routing
        sums of each sparse block.
    """
    chunks = config.loss.chunks
    rows, length = batch["tokens"].shape
    groups = sequence_groups(config.model, rows, length) if config.model.moe_layers else chunks

    def read(part: tuple[Array, Array], keys: Array | None, groups: int):
        out = model.apply({"params": params}, *part, train=key is not None, noise_keys=keys)
        # Sums of rows, not logits: of those a large vocabulary has too many to keep.
        return row_losses(out.logits, *part), out.routing  # pyright: ignore

    found, sums = in_chunks(read, (batch["tokens"], batch["segments"]), key, groups, chunks)
    targets = jnp.maximum(jnp.sum(found.targets), 1)
    entropy = jnp.sum(found.entropy) / targets
    normaliser = jnp.sum(found.normaliser) / targets
    parts = {
        "loss/cross_entropy": entropy,
        "loss/normaliser": normaliser,
        **router_losses(sums, config.loss, TEXT),
    }
    loss = entropy + config.model.z_loss * normaliser
    loss += config.loss.auxiliary * parts["loss/auxiliary"]
    return loss, (parts | {"loss": loss}, sums)
