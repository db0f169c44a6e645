"""Decoders as experiments, on two cores. Imports no JAX."""

from __future__ import annotations

import dataclasses

from ..datasets import TextDataConfig
from ..models import PALM
from ..models.config import MoeConfig
from .config import LanguageConfig, OptimizerConfig, RouterLossConfig

_MOE = MoeConfig(
    num_experts=8, selected=1, capacity_factor=1.25, batch_priority=False, group_size=1024
)

PALM_TINY = LanguageConfig(
    model=dataclasses.replace(PALM["palm_tiny"], moe=dataclasses.replace(_MOE, placement="none")),
    data=TextDataConfig(),
    loss=RouterLossConfig(auxiliary=0.02),
    optimizer=OptimizerConfig(name="palm", lr=0.01, warmup=300, b1=0.9),
    batch_size=32,
    # More learns the captions by heart: there are 1,336 concepts.
    steps=600,
    eval_every=200,
)

PALM_RUNS: dict[str, tuple[LanguageConfig, str]] = {
    "palm_tiny": (PALM_TINY, "PaLM on the captions' bytes, on two CPU cores"),
    "palm_tiny_moe": (
        dataclasses.replace(PALM_TINY, model=dataclasses.replace(PALM_TINY.model, moe=_MOE)),
        "the same with a mixture in every other block",
    ),
}
