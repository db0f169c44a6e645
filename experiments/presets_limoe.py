"""LIMoE as experiments: what runs on two cores, and the paper's sizes. Imports no JAX."""

from __future__ import annotations

import dataclasses

from ..datasets.config import AugmentConfig, DataConfig
from ..models.config import ModelConfig, MoeConfig
from .config import CheckpointConfig, ExperimentConfig, LossConfig, OptimizerConfig

# The demo: under six minutes of training on two CPU cores. docs/benchmarks/training.md has
# what was tried; settings were chosen on the validation artist alone.
LIMOE_TINY = ExperimentConfig(
    model=ModelConfig(
        patch_size=8,
        width=128,
        hidden=256,
        depth=4,
        heads=4,
        text_length=8,
        embed_dim=128,
        # 128 examples a group. With half of the text slots empty, 0.98 of the padded tokens'
        # share is under 1.25 of the real ones'.
        moe=MoeConfig(num_experts=8, selected=1, capacity_factor=0.98, group_size=128 * 24),
    ),
    data=DataConfig(
        objects_only=True,
        label_share=0.85,
        text_length=8,
        augment=AugmentConfig(
            shift=0.07, zoom=0.18, rotate=8.0, shear=0.0, colour=0.25, background=0.0
        ),
    ),
    loss=LossConfig(auxiliary=0.2, threshold_image=5.0, threshold_text=3.0),
    optimizer=OptimizerConfig(lr=0.03, adam_lr=0.008, warmup=40),
    batch_size=256,
    steps=900,
)


def _paper(
    *,
    patch: int,
    width: int,
    hidden: int,
    depth: int,
    heads: int,
    moe: MoeConfig,
) -> ExperimentConfig:
    """A LIMoE of the paper (arXiv 2206.02770, §3 and App. A; sizes of V-MoE, 2106.05974).

    The paper's image-text data is private; LAION-400M as TFDS prepares it stands in.
    """
    return ExperimentConfig(
        model=ModelConfig(
            image_size=224,
            patch_size=patch,
            width=width,
            hidden=hidden,
            depth=depth,
            heads=heads,
            text_length=16,
            vocab_size=32_000,
            embed_dim=width,
            dtype="bfloat16",
            moe=moe,
        ),
        data=DataConfig(
            name="laion400m",
            data_dir="~/tensorflow_datasets",
            text_length=16,
            workers=16,
            on_bad_image="skip",
            augment=AugmentConfig(
                shift=0.0, zoom=0.0, rotate=0.0, colour=0.0, flip=False, background=0.0
            ),
        ),
        # tau_image = log 20, tau_text = log 9; one weight, 0.04, over the averaged losses.
        loss=LossConfig(auxiliary=0.04, local=("text",), threshold_image=20.0, threshold_text=9.0),
        optimizer=OptimizerConfig(
            name="adafactor",
            lr=1e-3,
            warmup=10_000,
            schedule="rsqrt",
            weight_decay=1e-5,
            clip=0.0,
        ),
        checkpoint=CheckpointConfig(every=5_000, keep_last=3, keep_best=1),
        batch_size=16_384,
        steps=781_250,
        log_every=100,
        eval_every=10_000,
    )


_EVERY_OTHER = MoeConfig(
    placement="every",
    n=2,
    num_experts=32,
    selected=1,
    capacity_factor=1.05,
    batch_priority=True,
)
# H/14 has 12 sparse blocks: the last 12 of its 16 odd ones.
_LAST_12 = dataclasses.replace(_EVERY_OTHER, placement="last", n=12)

_S = {"width": 512, "hidden": 2048, "depth": 8, "heads": 8, "moe": _EVERY_OTHER}
_B = {"width": 768, "hidden": 3072, "depth": 12, "heads": 12, "moe": _EVERY_OTHER}
_L = {"width": 1024, "hidden": 4096, "depth": 24, "heads": 16, "moe": _EVERY_OTHER}
_H = {"width": 1280, "hidden": 5120, "depth": 32, "heads": 16, "moe": _LAST_12}

LIMOE: dict[str, tuple[ExperimentConfig, str]] = {
    "limoe_tiny": (LIMOE_TINY, "the demo: emoji art on two CPU cores"),
    "limoe_s32": (_paper(patch=32, **_S), "the paper's S/32, 32 experts every 2nd block"),
    "limoe_s16": (_paper(patch=16, **_S), "the paper's S/16, 32 experts every 2nd block"),
    "limoe_b32": (_paper(patch=32, **_B), "the paper's B/32, 32 experts every 2nd block"),
    "limoe_b16": (_paper(patch=16, **_B), "the paper's B/16, 32 experts every 2nd block"),
    "limoe_l16": (_paper(patch=16, **_L), "the paper's L/16, 32 experts every 2nd block"),
    "limoe_h14": (_paper(patch=14, **_H), "the paper's H/14, 32 experts in 12 blocks"),
}
