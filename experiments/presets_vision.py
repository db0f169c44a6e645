"""Classifiers as experiments: on two cores, and at the papers' sizes. Imports no JAX."""

from __future__ import annotations

from ..datasets.config import ImageDataConfig
from ..models import VmoeConfig
from ..models.config import MoeConfig
from .config import ClassificationConfig, ClassLossConfig, OptimizerConfig

# Under eight minutes on two CPU cores; chosen on the validation split (docs/benchmarks/vision.md).
VMOE_TINY = ClassificationConfig(
    model=VmoeConfig(
        image_size=28,
        patch_size=7,
        width=128,
        hidden=256,
        depth=4,
        heads=4,
        num_classes=10,
        classifier="gap",
        # 32 images a group.
        moe=MoeConfig(num_experts=8, selected=1, capacity_factor=1.05, group_size=32 * 16),
    ),
    data=ImageDataConfig(shift=1),
    loss=ClassLossConfig(auxiliary=0.02),
    optimizer=OptimizerConfig(lr=0.03, adam_lr=0.005, warmup=40),
    batch_size=128,
    steps=2200,
    log_every=100,
    eval_every=1100,
)

VISION: dict[str, tuple[ClassificationConfig, str]] = {
    "vmoe_tiny": (VMOE_TINY, "V-MoE on Fashion-MNIST, on two CPU cores"),
}
