"""The smallest experiments that train over islands, and batches for them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
from byways.experiments import ExperimentConfig
from byways.experiments.config import (
    CheckpointConfig,
    ClassificationConfig,
    Experiment,
    LanguageConfig,
    LossConfig,
    OptimizerConfig,
)
from byways.experiments.islands.events import Events
from byways.experiments.islands.hosts import Islands
from byways.experiments.islands.step import prepare_islands
from byways.experiments.tasks import task_of
from byways.models import ModelConfig, MoeConfig, PalmConfig, VmoeConfig

_SIZES = {"width": 8, "hidden": 16, "depth": 1, "heads": 2}
_SHORT = {
    "checkpoint": CheckpointConfig(every=3, keep_last=2, keep_best=0),
    "batch_size": 8,
    "steps": 8,
    "log_every": 2,
    "devices": 1,
}
_ADAM = OptimizerConfig(name="adamw", lr=0.01, warmup=2)
# Dense: what compiles fastest.
DENSE = LanguageConfig(
    model=PalmConfig(vocab_size=256, head_size=4, max_length=24, **_SIZES),
    optimizer=_ADAM,
    **_SHORT,
)
_MOE = MoeConfig(n=1, num_experts=4, group_size=48, batch_priority=False)
SPARSE = dataclasses.replace(DENSE, model=dataclasses.replace(DENSE.model, moe=_MOE))
CLASSES = ClassificationConfig(
    model=VmoeConfig(
        image_size=8, patch_size=4, num_classes=60, moe=MoeConfig(placement="none"), **_SIZES
    ),
    optimizer=_ADAM,
    **_SHORT,
)
# Four groups of two pairs, all losses on.
LIMOE = ExperimentConfig(
    model=ModelConfig(
        patch_size=16,
        embed_dim=8,
        moe=MoeConfig(n=1, num_experts=4, group_size=32, bias="sign"),
        **_SIZES,
    ),
    loss=LossConfig(threshold_image=3.0, threshold_text=2.0, local=("image", "text")),
    optimizer=_ADAM,
    **_SHORT,
)


def batch(config: Experiment, seed: int = 0) -> dict[str, np.ndarray]:
    """Random rows; texts are of unequal lengths, more at the batch's beginning than at its end."""
    rng, found = np.random.default_rng(seed), {}
    for name, like in jax.eval_shape(lambda: task_of(config).blank(config.batch_size)).items():
        high = 256 if name == "image" else 50
        found[name] = rng.integers(1, high, like.shape).astype(like.dtype)
    rows = config.batch_size
    for name, kind in (("text_mask", bool), ("segments", np.int32)):
        if name in found:
            length = found[name].shape[1]
            lengths = np.linspace(length, 3, rows).astype(int)[:, None]
            found[name] = (np.arange(length) < lengths).astype(kind)
    return found


def trained(config: Experiment, system, folder: Path):
    """The training over a system's islands, and its team."""
    islands = Islands(system, Events(folder / "islands.jsonl", tell=lambda _: None))
    return prepare_islands(config, islands), islands.team
