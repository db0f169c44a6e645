"""A whole experiment as one frozen dataclass; imports neither JAX nor Flax."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..datasets import TextDataConfig
from ..datasets.config import DataConfig, ImageDataConfig
from ..models import PalmConfig, TwoTowerConfig, VmoeConfig
from ..models.config import ModelConfig

Execution = Literal["fused", "pathways", "auto"]


@dataclasses.dataclass(frozen=True)
class RouterLossConfig:
    """The routers' auxiliary losses, of any experiment.

    Attributes:
        chunks: the batch goes through the model in this many rematerialised chunks; the loss is
            always taken over the whole global batch, so the gradient does not depend on it.
        auxiliary: weight of the auxiliary losses, which are averaged (LIMoE App. B.1).
        importance, load, z: switch V-MoE's two balance losses and the z-loss on.
        switch, gshard: switch the balance losses of those papers on.
        scope: of the balance losses: each routing group by itself, or the global batch.
    """

    chunks: int = 1
    auxiliary: float = 0.04
    importance: bool = True
    load: bool = True
    z: bool = True
    switch: bool = False
    gshard: bool = False
    scope: Literal["group", "global"] = "group"


@dataclasses.dataclass(frozen=True)
class LossConfig(RouterLossConfig):
    """The contrastive objective, and the routers' losses with those of a modality.

    Attributes:
        contrastive: `softmax` (CLIP, LIMoE) or `sigmoid` (SigLIP).
        local: modalities that get the local entropy loss.
        threshold_image, threshold_text: soft minimum of experts per modality, the exp of
            the paper's tau; 0 switches the global entropy loss of the modality off.
    """

    contrastive: Literal["softmax", "sigmoid"] = "softmax"
    local: tuple[Literal["image", "text"], ...] = ("text",)
    threshold_image: float = 5.0
    threshold_text: float = 3.0


@dataclasses.dataclass(frozen=True)
class ClassLossConfig(RouterLossConfig):
    """Cross-entropy over classes, and the routers' losses.

    Attributes:
        label_smoothing: share of the target that is spread over all classes.
    """

    label_smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimiser and its schedule.

    Attributes:
        name: `muon` (matrices by Muon, the rest by Adam), `adamw`, `adafactor`, or `palm`
            (Adafactor without factoring, whose schedule is `lr` for `warmup` steps, then
            rsqrt, and whose decay is the rate's square; docs/palm.md).
        lr: peak learning rate.
        adam_lr: with `muon`, the peak for what Adam updates.
        ns_steps: with `muon`, Newton-Schulz iterations.
        warmup: steps of linear warm-up.
        schedule: after warm-up, `cosine` or `linear` to `final_lr`, or `rsqrt`.
        final_lr: end of the schedule, as a share of the peak.
        weight_decay: decoupled, on kernels only; with `muon`, on those that Muon updates.
        b1, b2: moments' decay.
        clip: largest global norm of the gradient; 0 is off.
    """

    name: Literal["muon", "adamw", "adafactor", "palm"] = "muon"
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
class Experiment:
    """Everything that a run depends on, and all that resuming it needs.

    Attributes:
        model, data, loss: of each kind of experiment its own.
        optimizer, checkpoint: the same for all.
        batch_size: B, examples of the global batch.
        steps: optimiser steps of the whole run.
        seed: of parameters, data order and router noise.
        log_every: steps between metric lines.
        eval_every: steps between validations (on the validation split); 0 is only at the end.
        devices: local devices to shard the batch over; 0 is all of them.
        init: folders of trained weights to begin with, each a model's folder or a run's;
            `PLACE=FOLDER` puts one at a place in the tree (`image=…`: the image tower).
            docs/training.md says what must fit and what is resized.
        freeze: places in the tree whose parameters stay as they began (locked-image tuning:
            `image`).
        execution: `fused` is one program a step; `pathways` runs those experts alone that are
            chosen; `auto` tries both and goes on with the faster (docs/execution.md). A run may be
            resumed under another.
        expert_updates: by `pathways`, `exact` optimiser steps equal the fused ones; `sparse` leaves
            experts that sleep as they are.
        islands: the batch is cut in so many parts, each for an island, a process with a device of
            its own, that is started (docs/multi_island.md); None trains in this process. A run may
            be resumed with another number.
    """

    model: Any = None
    data: Any = None
    loss: Any = None
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    batch_size: int = 128
    steps: int = 1200
    seed: int = 0
    log_every: int = 20
    eval_every: int = 0
    devices: int = 0
    init: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    execution: Execution = "fused"
    expert_updates: Literal["exact", "sparse"] = "exact"
    islands: int | None = None


@dataclasses.dataclass(frozen=True)
class ContrastiveConfig(Experiment):
    """Contrastive training on images with captions; B counts pairs.

    Attributes: as `Experiment`.
    """

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(ContrastiveConfig):
    """Contrastive training of one tower for images and text: LIMoE, or its dense twin.

    Attributes: as `Experiment`.
    """

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)


@dataclasses.dataclass(frozen=True)
class TwoTowerExperimentConfig(ContrastiveConfig):
    """Contrastive training of separate encoders, dense or sparse each.

    Attributes: as `Experiment`.
    """

    model: TwoTowerConfig = dataclasses.field(default_factory=TwoTowerConfig)
    # The entropy losses are for modalities that share a router.
    loss: LossConfig = LossConfig(local=(), threshold_image=0.0, threshold_text=0.0)


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(Experiment):
    """Supervised training of a V-MoE or ViT on labelled images.

    Attributes: as `Experiment`.
    """

    model: VmoeConfig = dataclasses.field(default_factory=VmoeConfig)
    data: ImageDataConfig = dataclasses.field(default_factory=ImageDataConfig)
    loss: ClassLossConfig = dataclasses.field(default_factory=ClassLossConfig)


@dataclasses.dataclass(frozen=True)
class LanguageConfig(Experiment):
    """Training of a decoder of text, PaLM, on packed captions; B counts rows of max_length.

    Attributes: as `Experiment`; the weight of the z-loss over logits is `model.z_loss`.
    """

    model: PalmConfig = dataclasses.field(default_factory=PalmConfig)
    data: TextDataConfig = dataclasses.field(default_factory=TextDataConfig)
    loss: RouterLossConfig = dataclasses.field(default_factory=RouterLossConfig)


# What `config.json` calls each kind.
KINDS: dict[str, type[Experiment]] = {
    "contrastive": ExperimentConfig,
    "two_tower": TwoTowerExperimentConfig,
    "classification": ClassificationConfig,
    "language": LanguageConfig,
}


def kind_of(config: Experiment) -> str:
    """The name of a config's kind."""
    return next(name for name, kind in KINDS.items() if type(config) is kind)
