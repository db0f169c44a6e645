"""Two towers as experiments, on two cores. Imports no JAX."""

from __future__ import annotations

import dataclasses

from ..models import ImageTowerConfig, TextTowerConfig, TwoTowerConfig
from ..models.config import MoeConfig
from .config import LossConfig, TwoTowerExperimentConfig
from .presets_limoe import LIMOE_TINY

# A tower has half of what LIMoE's one stack has, so that both together cost as much.
_MOE = MoeConfig(num_experts=8, selected=1, capacity_factor=1.05, group_size=128 * 16)

TWO_TOWER_TINY = TwoTowerExperimentConfig(
    model=TwoTowerConfig(
        image=ImageTowerConfig(patch_size=8, width=128, hidden=256, depth=4, heads=4, moe=_MOE),
        text=TextTowerConfig(
            text_length=8,
            width=128,
            hidden=256,
            depth=2,
            heads=4,
            moe=dataclasses.replace(_MOE, placement="none"),
        ),
        embed_dim=128,
    ),
    data=LIMOE_TINY.data,
    loss=LossConfig(auxiliary=0.2, local=(), threshold_image=0.0, threshold_text=0.0),
    optimizer=LIMOE_TINY.optimizer,
    batch_size=256,
    steps=900,
)

TOWERS: dict[str, tuple[TwoTowerExperimentConfig, str]] = {
    "two_tower_tiny": (TWO_TOWER_TINY, "an encoder each for images and texts, on emoji art"),
}
