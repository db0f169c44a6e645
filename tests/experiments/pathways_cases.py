"""Tiny dropless experiments whose experts differ, with batches, and the same in float64."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import byways.experiments.train_state as train_state
import jax
import jax.numpy as jnp
import numpy as np
from byways.experiments.config import (
    CheckpointConfig,
    ClassificationConfig,
    ExperimentConfig,
    LanguageConfig,
    LossConfig,
    OptimizerConfig,
    TwoTowerExperimentConfig,
)
from byways.models import (
    ImageTowerConfig,
    ModelConfig,
    MoeConfig,
    PalmConfig,
    TextTowerConfig,
    TwoTowerConfig,
    VmoeConfig,
)

_MOE = MoeConfig(n=1, num_experts=8, capacity_factor=None, group_size=32)
_SHORT = {
    "checkpoint": CheckpointConfig(every=2, keep_last=4, keep_best=0),
    "batch_size": 8,
    "steps": 10,
    "log_every": 2,
    "devices": 1,
}
_SIZES = {"width": 8, "hidden": 16, "depth": 1, "heads": 2}

LIMOE = ExperimentConfig(
    model=ModelConfig(patch_size=16, embed_dim=8, text_length=6, moe=_MOE, **_SIZES),
    data=dataclasses.replace(ExperimentConfig().data, text_length=6),
    loss=LossConfig(threshold_image=3.0, threshold_text=2.0),
    optimizer=OptimizerConfig(name="adamw", lr=5e-3, warmup=2),
    **_SHORT,
)
VMOE = ClassificationConfig(
    model=VmoeConfig(
        image_size=28, patch_size=14, num_classes=10, classifier="token", moe=_MOE, **_SIZES
    ),
    optimizer=OptimizerConfig(lr=5e-3, warmup=2),
    **_SHORT,
)
PALM = LanguageConfig(
    model=PalmConfig(
        vocab_size=256,
        head_size=4,
        max_length=12,
        moe=dataclasses.replace(_MOE, selected=2, batch_priority=False),
        **_SIZES,
    ),
    optimizer=OptimizerConfig(name="palm", lr=0.01, warmup=2),
    **_SHORT,
)
TOWERS = TwoTowerExperimentConfig(
    model=TwoTowerConfig(
        image=ImageTowerConfig(patch_size=16, moe=_MOE, **_SIZES),
        text=TextTowerConfig(text_length=6, **_SIZES),
        embed_dim=8,
    ),
    data=LIMOE.data,
    optimizer=OptimizerConfig(name="adamw", lr=5e-3, warmup=2),
    **_SHORT,
)


def with_moe(config, **changes):
    """The experiment with other values of its sparse blocks."""
    moe = dataclasses.replace(config.model.moe, **changes)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, moe=moe))


def batch_of(config, seed=0) -> dict[str, np.ndarray]:
    """Random rows, as the data gives them."""
    rng, rows, model = np.random.default_rng(seed), config.batch_size, config.model
    if isinstance(config, LanguageConfig):
        tokens = rng.integers(0, 256, (rows, model.max_length), np.int32)
        segments = np.repeat([[1, 2, 0]], model.max_length // 3, axis=1).repeat(rows, axis=0)
        return {"tokens": tokens, "segments": segments.astype(np.int32)}
    towers = isinstance(config, TwoTowerExperimentConfig)
    side = model.image.image_size if towers else model.image_size
    images = rng.integers(0, 256, (rows, side, side, 3), np.uint8)
    if isinstance(config, ClassificationConfig):
        return {"image": images, "label": rng.integers(0, 10, rows, np.int32)}
    length = model.text.text_length if towers else model.text_length
    text = rng.integers(0, 2048, (rows, length), np.int32)
    mask = np.arange(length) < rng.integers(1, length, (rows, 1))
    return {"image": images, "text": text, "text_mask": mask}


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """What is float32 in models, routing and training is float64 in here.

    They name their types at each call, so that giving the name another meaning does it.
    """
    single, dtype, initial = jnp.float32, jnp.dtype, train_state.initial_params

    def wide(x):
        return x.astype(np.float64) if x.dtype == np.float32 else x

    with jax.enable_x64(True):
        jnp.float32 = jnp.float64
        jnp.dtype = lambda name: dtype("float64" if name == "float32" else name)
        train_state.initial_params = lambda config: jax.tree.map(wide, initial(config))
        try:
            yield
        finally:
            jnp.float32, jnp.dtype = single, dtype
            train_state.initial_params = initial


def different(tree, seed=0, scale=0.3):
    """Parameters with noise on them, so that no two experts are alike, and no bias is zero."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + scale * rng.normal(size=x.shape).astype(x.dtype), tree)


def train_steps(training, config, steps=10):
    """The losses, and the canonical state after them; of parameters that all differ."""
    state = training.start()
    state["params"] = different(state["params"])
    state = training.enter(state)
    losses = []
    for number in range(steps):
        state, loss = training.step(state, training.put(batch_of(config, number)))
        losses.append(loss)
    metrics, state = training.read(state)
    return np.asarray(losses), jax.device_get(training.canonical(state)), metrics
