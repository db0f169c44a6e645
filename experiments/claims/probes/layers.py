"""A V-MoE layer by layer: what its experts tell, and what a random router there costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ....datasets import batches_of_rows, load_images
from ...evaluation.classification import ClassScores
from ...evaluation.vmoe_scores import evaluate_settings, image_logits
from ...library import read_run
from ...report.tokens import route_labelled
from .shuffles import beside_shuffled

_BATCH = 256
_PICTURES = 2048


def probe(folder: Path) -> dict[str, float]:
    """Of each sparse block L `class.L` and `position.L`: nats that its experts tell, less what
    they would after a shuffle, on 2,048 validation images; `random_drop.L`: top-1 on the test
    images lost when L's router is a random one; `.first` and `.last` of each; `selected_1` and
    `selected_2`: top-1 with K = 1 and 2. All dropless.
    """
    run = read_run(folder)
    config, params = run.config.model, run.params
    data = load_images(run.config.data, config.image_size)
    rows = np.random.default_rng(0).permutation(data.splits["validation"])[:_PICTURES]
    (batch,) = batches_of_rows(data, rows, len(rows), config.image_size)
    found: dict[str, float] = {}
    for layer, pairs in route_labelled(config, params, batch["image"]).items():
        number = layer.rsplit("_", 1)[-1]
        value, chance = beside_shuffled(pairs.expert, pairs.row, np.asarray(batch["label"]))
        found[f"class.{number}"] = value - chance
        places = np.arange(config.num_patches)
        # Each token's place is shuffled by itself: sixteen places alone would give few shuffles.
        value, chance = beside_shuffled(
            pairs.expert, np.arange(len(pairs.place)), places[pairs.place]
        )
        found[f"position.{number}"] = value - chance

    def batches():
        return batches_of_rows(data, data.splits["test"], _BATCH, config.image_size)

    one, two = evaluate_settings(config, params, batches, [(1, None), (2, None)])
    found["selected_1"], found["selected_2"] = (s.scores.summary()["top1"] for s in (one, two))
    for block in config.moe_layers:
        score = _with_random_router(config, params, batches, block)
        found[f"random_drop.{block}"] = found["selected_1"] - score
    for what in ("class", "position", "random_drop"):
        found[f"{what}.first"] = found[f"{what}.{config.moe_layers[0]}"]
        found[f"{what}.last"] = found[f"{what}.{config.moe_layers[-1]}"]
    return found


def _with_random_router(config: Any, params: Any, batches: Any, block: int) -> float:
    """Top-1 where each token of the block turns its logits by a random number of experts: the
    choice is uniform, and its gate the one that the router gave to its own choice."""
    place = f"encoderblock_{block}"
    logits_of = image_logits(config)

    def turned(next_method, arguments, options, context):
        logits = next_method(*arguments, **options)
        path = context.module.path
        if context.method_name != "__call__" or "Router" not in path or place not in path:
            return logits
        if not isinstance(context.module, nn.Dense):
            return logits
        experts = logits.shape[-1]
        by = jax.random.randint(jax.random.key(0), logits.shape[:-1], 0, experts)
        index = (jnp.arange(experts) + by[..., None]) % experts
        return jnp.take_along_axis(logits, index, axis=-1)

    @jax.jit
    def run(params, image, mask):
        with nn.intercept_methods(turned):
            return logits_of(params, image, mask)

    state = ClassScores.empty(config.num_classes)
    for batch in batches():
        logits = np.asarray(run(params, batch["image"], batch["mask"]))
        mask = np.asarray(batch["mask"], bool)
        state += ClassScores.of_batch(logits, np.asarray(batch["label"]), mask)
    return state.summary()["top1"]
