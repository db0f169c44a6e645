"""A config that trains in seconds: the shipped data, a model of a few thousand weights."""

from __future__ import annotations

from byways.experiments import ExperimentConfig
from byways.experiments.config import CheckpointConfig, LossConfig, OptimizerConfig
from byways.models import ModelConfig, MoeConfig

TINY = ExperimentConfig(
    model=ModelConfig(
        patch_size=16,
        width=16,
        hidden=24,
        depth=1,
        heads=2,
        embed_dim=16,
        moe=MoeConfig(n=1, num_experts=4, group_size=64),
    ),
    loss=LossConfig(threshold_image=3.0, threshold_text=2.0),
    optimizer=OptimizerConfig(warmup=2),
    checkpoint=CheckpointConfig(every=3, keep_last=2, keep_best=0),
    batch_size=16,
    steps=8,
    log_every=2,
    devices=1,
)


def flags(config: ExperimentConfig) -> list[str]:
    """The command line that turns the preset `limoe_tiny` into `config`."""
    from byways.experiments import preset, to_dict

    words: list[str] = []

    def walk(new: dict, old: dict, path: str) -> None:
        for key, value in new.items():
            name = f"{path}{key}"
            if isinstance(value, dict):
                walk(value, old[key], f"{name}.")
            elif value == old[key]:
                continue
            elif isinstance(value, bool):
                words.append(f"--{path}{'' if value else 'no-'}{key}")
            else:
                words.extend([f"--{name}", str(value)])

    walk(to_dict(config), to_dict(preset("limoe_tiny")), "")
    return words
