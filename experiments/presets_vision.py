"""Classifiers as experiments: on two cores, and at the papers' sizes. Imports no JAX."""

from __future__ import annotations

from ..datasets.config import ImageDataConfig
from ..models import VmoeConfig
from ..models.config import MoeConfig
from .config import ClassificationConfig, ClassLossConfig, OptimizerConfig

VMOE_TINY = ClassificationConfig(
    model=VmoeConfig(
        image_size=28,
        patch_size=4,
        width=96,
        hidden=192,
        depth=4,
        heads=3,
        num_classes=10,
        classifier="gap",
        moe=MoeConfig(num_experts=8, selected=1, capacity_factor=1.05, group_size=16 * 49),
    ),
    data=ImageDataConfig(),
    loss=ClassLossConfig(auxiliary=0.02),
    optimizer=OptimizerConfig(lr=0.03, adam_lr=0.005, warmup=40),
    batch_size=256,
    steps=900,
)

VISION: dict[str, tuple[ClassificationConfig, str]] = {
    "vmoe_tiny": (VMOE_TINY, "V-MoE on Fashion-MNIST, on two CPU cores"),
}
