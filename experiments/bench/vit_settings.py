"""What `byways bench vit` measures, as data; imports no JAX."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..errors import UsageError


@dataclasses.dataclass(frozen=True)
class BenchVit:
    """A dense ViT, by default B/16.

    Attributes:
        batch: images.
        image_size, patch_size: pixels; the image divides into patches.
        width: D.
        hidden: H.
        depth: L.
        heads: attention heads; D divides by them.
        num_classes: of the head.
        dtype: of activations and matrix products; parameters are float32.
        repeats: timed pairs; medians are over these.
        seed: of images and parameters.
    """

    batch: int = 8
    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    hidden: int = 3072
    depth: int = 12
    heads: int = 12
    num_classes: int = 1000
    dtype: Literal["float32", "bfloat16"] = "float32"
    repeats: int = 20
    seed: int = 0


VIT_B16 = BenchVit()


def check_vit(settings: BenchVit) -> BenchVit:
    """The settings, if they make a model.

    Raises:
        UsageError: they do not; which value, and what it must be.
    """
    for field in dataclasses.fields(BenchVit):
        value = getattr(settings, field.name)
        if field.name not in ("dtype", "seed") and value < 1:
            name = field.name.replace("_", "-")
            raise UsageError(f"--{name} {value}: must be at least 1")
    if settings.image_size % settings.patch_size:
        raise UsageError(
            f"--image-size {settings.image_size} does not divide into patches of "
            f"{settings.patch_size}: give a multiple of --patch-size"
        )
    if settings.width % settings.heads:
        raise UsageError(
            f"--width {settings.width} does not divide by --heads {settings.heads}: all heads are "
            "of one size"
        )
    return settings
