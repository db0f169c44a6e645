"""Training of a decoder on packed text: PaLM's loss plus the routers' losses."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ..models import Palm, RowLosses, row_losses, sequence_groups
from ..routing import RoutingSums
from .chunking import forward_passes_again
from .config import LanguageConfig
from .objective import Batch, Loss, Objective, Params
from .router_losses import router_losses
from .task import Task
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
        objective=objective(config),
        routers=lambda _: config.model.moe,
        flops=flops,
    )


def objective(config: LanguageConfig) -> Objective:
    """The loss to minimise: per target, -log p + z_loss · log² Z; and the router losses.

    Batches have `tokens` and `segments` (B, N) int32; `loss/cross_entropy` is in nats a target.
    """
    model = Palm(config.model)

    def groups(size: int) -> int:
        if not config.model.moe_layers:
            return 0
        return sequence_groups(config.model, size, config.model.max_length)

    def read(params: Params, batch: Batch, keys: Array | None, groups: int):
        part = batch["tokens"], batch["segments"]
        out = model.apply({"params": params}, *part, train=keys is not None, noise_keys=keys)
        # Sums of rows, not logits: of those a large vocabulary has too many to keep.
        return row_losses(out.logits, *part), out.routing  # pyright: ignore

    def loss(found: RowLosses, sums: dict[str, RoutingSums]) -> Loss:
        targets = jnp.maximum(jnp.sum(found.targets), 1)
        entropy = jnp.sum(found.entropy) / targets
        normaliser = jnp.sum(found.normaliser) / targets
        parts = {
            "loss/cross_entropy": entropy,
            "loss/normaliser": normaliser,
            **router_losses(sums, config.loss, TEXT),
        }
        total = entropy + config.model.z_loss * normaliser
        total += config.loss.auxiliary * parts["loss/auxiliary"]
        return total, (parts | {"loss": total}, sums)

    return Objective(groups, read, loss, config.loss.chunks)
