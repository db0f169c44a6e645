"""The image features of any model that reads images."""

from __future__ import annotations

import jax
import numpy as np

from ...models import LoadedModel
from .features import FeaturesFn
from .vmoe_scores import vmoe_features


def image_features(model: LoadedModel) -> FeaturesFn:
    """Of a classifier what its head would read; of a contrastive model its embeddings.

    Args:
        model: a vmoe, a limoe or a two_tower, or the images' part of these.

    Returns:
        A function from a batch with `image` (B,S,S,3) uint8 and `mask` (B,) to (B, F) float32;
        dropless, padding rows are never routed.

    Raises:
        ValueError: a model that reads no images.
    """
    if model.kind == "vmoe":
        return vmoe_features(model.config, model.params)
    if model.kind.removesuffix("_image") not in ("limoe", "two_tower"):
        raise ValueError(f"a {model.kind} reads no images, so it has no features of them")
    module, params = model.module, jax.device_put(model.params)

    @jax.jit
    def embed(params, image: jax.Array, mask: jax.Array):
        return module.apply({"params": params}, image, None, None, mask).image

    return lambda batch: np.asarray(embed(params, batch["image"], batch["mask"]))
