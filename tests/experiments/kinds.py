"""Tiny experiments of the other kinds: two towers, a classifier, a decoder."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from byways.datasets import DataConfig, ImageDataConfig
from byways.experiments.config import (
    CheckpointConfig,
    ClassificationConfig,
    LanguageConfig,
    OptimizerConfig,
    TwoTowerExperimentConfig,
)
from byways.models import (
    ImageTowerConfig,
    MoeConfig,
    PalmConfig,
    TextTowerConfig,
    TwoTowerConfig,
    VmoeConfig,
)

# One block, sparse: programs that compile quickly.
_MOE = MoeConfig(n=1, num_experts=4, group_size=24)
_SHORT = {
    "optimizer": OptimizerConfig(warmup=2),
    "checkpoint": CheckpointConfig(every=2, keep_last=2, keep_best=0),
    "batch_size": 8,
    "steps": 3,
    "log_every": 2,
    "devices": 1,
}
_SIZES = {"width": 8, "hidden": 16, "depth": 1, "heads": 2}

TOWERS = TwoTowerExperimentConfig(
    model=TwoTowerConfig(
        image=ImageTowerConfig(patch_size=16, moe=_MOE, **_SIZES),
        text=TextTowerConfig(**_SIZES),
        embed_dim=8,
    ),
    data=DataConfig(),
    **_SHORT,
)
LANGUAGE = LanguageConfig(
    model=PalmConfig(
        vocab_size=256,
        head_size=4,
        max_length=24,
        moe=MoeConfig(n=1, num_experts=4, group_size=48, batch_priority=False),
        **_SIZES,
    ),
    **{**_SHORT, "optimizer": OptimizerConfig(name="palm", lr=0.01, warmup=2)},
)


def classification(folder: Path) -> ClassificationConfig:
    """On the pictures that `write_fashion` left in a folder."""
    return ClassificationConfig(
        model=VmoeConfig(
            image_size=28, patch_size=14, num_classes=10, classifier="token", moe=_MOE, **_SIZES
        ),
        data=ImageDataConfig(data_dir=str(folder)),
        **_SHORT,
    )


def write_fashion(folder: Path, many: int = 60) -> Path:
    """Fashion-MNIST's four files with random pictures, all classes alike often."""
    rng = np.random.default_rng(0)
    for stem in ("train", "t10k"):
        images = rng.integers(0, 256, (many, 28, 28), np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(many) % 10)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            data = gzip.compress(head + array.astype(np.uint8).tobytes())
            (folder / f"{stem}-{name}-ubyte.gz").write_bytes(data)
    return folder
