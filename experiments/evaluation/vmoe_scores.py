"""A V-MoE evaluated: its features, and its accuracy under other K and capacity than trained with.

K and the capacity are no parameters: the same weights serve any of them, at another cost
(Riquelme et al., arXiv 2106.05974, sec. 4 and fig. 7).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from ...datasets import Batch
from ...models import MoeConfig, Vmoe, VmoeConfig
from ..classification import scaled
from ..config import Execution
from ..forward import Forward, in_flight
from .classification import ClassScores
from .features import FeaturesFn


def vmoe_logits(config: VmoeConfig, params: Any, execution: Execution = "fused") -> FeaturesFn:
    """A compiled function from a batch to (B, classes) float32 logits.

    Batches have `image` (B,S,S,3) uint8 and `mask` (B,); padding rows are never routed. Routing
    is evaluation's: without noise, and dropless where `eval_capacity_factor` is None.

    Raises:
        ConfigError: `pathways`, of a model without experts that could be left out.
    """
    run = vmoe_forward(config, params, execution)
    return lambda batch: np.asarray(run(batch))


def vmoe_forward(config: VmoeConfig, params: Any, execution: Execution = "fused") -> FeaturesFn:
    """As `vmoe_logits`, but that the logits may be on their way still."""
    run = Forward(image_logits, config, params, execution)
    return lambda batch: run(batch["image"], batch["mask"])


def image_logits(config: VmoeConfig) -> Callable[..., jax.Array]:
    """(params, images, mask of rows) -> (B, classes) of a model's config; see `Forward`."""
    model = Vmoe(config)

    def logits(params: Any, image: jax.Array, mask: jax.Array) -> jax.Array:
        return model.apply({"params": params}, scaled(image), mask).logits  # pyright: ignore

    return logits


def vmoe_features(config: VmoeConfig, params: Any, execution: Execution = "fused") -> FeaturesFn:
    """As `vmoe_logits`, of the model without its head: (B, D), what the head would read."""
    body = {name: value for name, value in params.items() if name != "head"}
    return vmoe_logits(dataclasses.replace(config, num_classes=0), body, execution)


def eval_settings(
    moe: MoeConfig, selected: int | None = None, capacity_factor: float | None = None
) -> MoeConfig:
    """The sparse layers with another K and capacity at evaluation.

    Args:
        moe: as trained.
        selected: K; None is the training's.
        capacity_factor: C over its even share; None is dropless (expert choice and soft routing,
            which have no such form, keep the training's).

    Raises:
        ValueError: K is not between 1 and E, the router has no K, or the factor is not positive.
    """
    if selected is not None:
        if not 1 <= selected <= moe.num_experts:
            raise ValueError(
                f"selected={selected}: a token chooses 1 to {moe.num_experts} of as many experts"
            )
        if moe.router in ("soft", "switch") and selected != moe.selected:
            raise ValueError(f"router {moe.router!r} has no K to change; leave selected out")
    if capacity_factor is not None and not capacity_factor > 0:
        raise ValueError(
            f"capacity_factor={capacity_factor} must be above 0; None is without a limit"
        )
    return dataclasses.replace(moe, eval_selected=selected, eval_capacity_factor=capacity_factor)


@dataclasses.dataclass(frozen=True)
class SettingScore:
    """The scores under one K and capacity factor (None: dropless)."""

    selected: int
    capacity_factor: float | None
    scores: ClassScores

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: the setting and `ClassScores.summary`."""
        setting = {"selected": self.selected, "capacity_factor": self.capacity_factor}
        return setting | self.scores.summary()


def evaluate_settings(
    config: VmoeConfig,
    params: Any,
    batches: Callable[[], Iterable[Batch]],
    settings: Sequence[tuple[int | None, float | None]] = ((None, None),),
    execution: Execution = "fused",
) -> list[SettingScore]:
    """Scores one model under several K and capacities.

    With a capacity limit the score depends on which images share a group, and so on the order
    and size of the batches; dropless it does not.

    Args:
        config, params: the model.
        batches: makes evaluation batches, once for each setting: `image` (B,S,S,3) uint8,
            `label` (B,) or (B, A) padded with -1, `mask` (B,).
        settings: (K, capacity factor) each; all are checked before anything is computed.
        execution: how.

    Raises:
        ValueError: a setting that cannot be, or there are no images.
    """
    models = [dataclasses.replace(config, moe=eval_settings(config.moe, *s)) for s in settings]
    found = []
    for model in models:
        run = vmoe_forward(model, params, execution)
        state = ClassScores.empty(config.num_classes)
        for batch, logits in in_flight(run, batches()):
            mask = np.asarray(batch["mask"], bool)
            state += ClassScores.of_batch(logits, np.asarray(batch["label"]), mask)
        state.summary()  # raises where there was nothing
        moe = model.moe
        factor = moe.eval_capacity_factor
        if factor is None and moe.router in ("soft", "expert_choice"):
            factor = moe.capacity_factor
        found.append(SettingScore(moe.eval_selected or moe.selected, factor, state))
    return found
