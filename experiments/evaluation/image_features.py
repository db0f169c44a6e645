"""The image features of any model that reads images."""

from __future__ import annotations

import numpy as np

from ...models import LoadedModel
from ..config import Execution
from ..forward import Forward
from ..library import image_embedding
from .features import FeaturesFn
from .vmoe_scores import vmoe_features


def image_features(model: LoadedModel, execution: Execution = "fused") -> FeaturesFn:
    """Of a classifier what its head would read; of a contrastive model its embeddings.

    Args:
        model: a vmoe, a limoe or a two_tower, or the images' part of these.
        execution: how.

    Returns:
        A function from a batch with `image` (B,S,S,3) uint8 and `mask` (B,) to (B, F) float32;
        dropless, padding rows are never routed.

    Raises:
        ValueError: a model that reads no images.
        ConfigError: `pathways`, of a model without experts that could be left out.
    """
    if model.kind == "vmoe":
        return vmoe_features(model.config, model.params, execution)
    if model.kind.removesuffix("_image") not in ("limoe", "two_tower"):
        raise ValueError(f"a {model.kind} reads no images, so it has no features of them")
    run = Forward(image_embedding, model.config, model.params, execution)
    return lambda batch: np.asarray(run(batch["image"], batch["mask"]))
