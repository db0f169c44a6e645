"""A whole experiment as one frozen dataclass; imports neither JAX nor Flax."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..datasets.config import DataConfig
from ..models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The contrastive objective and the router's auxiliary losses.

    Attributes:
        contrastive: `softmax` (CLIP, LIMoE) or `sigmoid` (SigLIP).
        chunks: the batch is embedded in this many rematerialised chunks; the loss is
            always taken over the whole global batch, so the gradient does not depend on it.
        auxiliary: weight of the auxiliary losses, which are averaged (LIMoE App. B.1).
        importance, load, z: switch V-MoE's two balance losses and the z-loss on.
        switch, gshard: switch the balance losses of those papers on.
        scope: of the balance losses: each routing group by itself, or the global batch.
        local: modalities that get the local entropy loss.
        threshold_image, threshold_text: soft minimum of experts per modality, the exp of
            the paper's tau; 0 switches the global entropy loss of the modality off.
    """

    contrastive: Literal["softmax", "sigmoid"] = "softmax"
    chunks: int = 1
    auxiliary: float = 0.04
    importance: bool = True
    load: bool = True
    z: bool = True
    switch: bool = False
    gshard: bool = False
    scope: Literal["group", "global"] = "group"
    local: tuple[Literal["image", "text"], ...] = ("text",)
    threshold_image: float = 5.0
    threshold_text: float = 3.0


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
        name: `muon` (matrices by Muon, the rest by Adam), `adamw`, or `adafactor`.
        lr: peak learning rate.
        adam_lr: with `muon`, the peak for what Adam updates.
        ns_steps: with `muon`, Newton-Schulz iterations.
        warmup: steps of linear warm-up.
        schedule: after warm-up, `cosine` or `linear` to `final_lr`, or `rsqrt`.
        final_lr: end of the schedule, as a share of the peak.
        weight_decay: decoupled, on matrices only.
        b1, b2: moments' decay.
        clip: largest global norm of the gradient; 0 is off.
    """

    name: Literal["muon", "adamw", "adafactor"] = "muon"
    lr: float = 2e-2
    adam_lr: float = 5e-3
    ns_steps: int = 5
    warmup: int = 50
    schedule: Literal["cosine", "linear", "rsqrt"] = "cosine"
    final_lr: float = 0.01
    weight_decay: float = 0.05
    b1: float = 0.9
    b2: float = 0.99
    clip: float = 1.0


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When to save and what to keep.

    Attributes:
        every: steps between checkpoints; the last step is always saved.
        keep_last: newest checkpoints kept.
        keep_best: best checkpoints kept besides, by validation top-1.
    """

    every: int = 200
    keep_last: int = 2
    keep_best: int = 1


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything that a run depends on, and all that resuming it needs.

    Attributes:
        model, data, loss, optimizer, checkpoint: the parts.
        batch_size: B, image-text pairs of the global batch.
        steps: optimiser steps of the whole run.
        seed: of parameters, data order and router noise.
        log_every: steps between metric lines.
        eval_every: steps between validations (on the validation artist); 0 is only at the end.
        devices: local devices to shard the batch over; 0 is all of them.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    batch_size: int = 128
    steps: int = 1200
    seed: int = 0
    log_every: int = 20
    eval_every: int = 0
    devices: int = 0
