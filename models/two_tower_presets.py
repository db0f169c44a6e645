"""CLIP's and SigLIP's published sizes (Radford et al., 2021; Zhai et al., 2023)."""

from __future__ import annotations

from .two_tower_config import ImageTowerConfig, TextTowerConfig, TwoTowerConfig

# Of OpenAI's training images, by channel.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def _clip(side: int, patch: int, width: int, depth: int, features: int) -> TwoTowerConfig:
    """Images by heads of 64; texts of F, 12 blocks, 77 places, 49,408 pieces."""
    image = ImageTowerConfig(
        side,
        patch,
        width,
        4 * width,
        depth,
        width // 64,
        mean=CLIP_MEAN,
        std=CLIP_STD,
        patch_bias=False,
        pre_norm=True,
        pool="token",
        activation="quick_gelu",
        epsilon=1e-5,
    )
    text = TextTowerConfig(
        77,
        49_408,
        features,
        4 * features,
        12,
        features // 64,
        causal=True,
        pool="end",
        activation="quick_gelu",
        epsilon=1e-5,
    )
    return TwoTowerConfig(image, text, features, initial_temperature=0.07)


def _siglip(
    side: int, patch: int, width: int, hidden: int, depth: int, heads: int
) -> TwoTowerConfig:
    """Both towers of one size; texts of 64 places, 32,000 pieces."""
    image = ImageTowerConfig(
        side,
        patch,
        width,
        hidden,
        depth,
        heads,
        mean=HALF,
        std=HALF,
        pool="map",
        projection="none",
    )
    text = TextTowerConfig(
        64, 32_000, width, hidden, depth, heads, pool="last", projection="affine"
    )
    return TwoTowerConfig(image, text, width, max_scale=None)


TWO_TOWERS: dict[str, TwoTowerConfig] = {
    "clip_b32": _clip(224, 32, 768, 12, 512),
    "clip_b16": _clip(224, 16, 768, 12, 512),
    "clip_l14": _clip(224, 14, 1024, 24, 768),
    "clip_l14_336": _clip(336, 14, 1024, 24, 768),
    "siglip_b16": _siglip(224, 16, 768, 3072, 12, 12),
    "siglip_l16_256": _siglip(256, 16, 1024, 4096, 24, 16),
    "siglip_so400m14_384": _siglip(384, 14, 1152, 4304, 27, 16),
}
