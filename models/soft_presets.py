"""ViTs with soft mixtures, or experts that choose, at the published sizes.

Of the Soft MoE paper (Puigcerver et al., arXiv 2308.00951, table 3 and its code's
`pretrain_jft4b` config): the last half of all blocks is sparse, each image is a group, and a soft
expert has one slot. Trained on JFT-4B's 29,593 classes: mean of all tokens, no layer before the
head, normalised queries and keys. `ec_*` are the same with experts that choose, each its even share
of the image's tokens.
"""

from __future__ import annotations

import math

from .config import MoeConfig, Router
from .vmoe_config import VmoeConfig

_CLASSES = 29_593
# name: D, H, L, heads, patch, E. The H/14 of 256 experts is the code's; the paper has both.
_SIZES = {
    "s16": (384, 1536, 12, 6, 16, 128),
    "s14": (384, 1536, 12, 6, 14, 256),
    "b16": (768, 3072, 12, 12, 16, 128),
    "l16": (1024, 4096, 24, 16, 16, 128),
    "h14": (1280, 5120, 32, 16, 14, 128),
    "h14_256": (1280, 5120, 32, 16, 14, 256),
}


def _model(size: str, router: Router) -> VmoeConfig:
    width, hidden, depth, heads, patch, experts = _SIZES[size]
    return VmoeConfig(
        patch_size=patch,
        width=width,
        hidden=hidden,
        depth=depth,
        heads=heads,
        num_classes=_CLASSES,
        classifier="gap",
        head_bias=-math.log(_CLASSES),
        qk_norm=True,
        moe=MoeConfig(
            placement="final",
            n=depth // 2,
            num_experts=experts,
            capacity_factor=1.0,
            group_size=(224 // patch) ** 2,
            router=router,
        ),
    )


SOFT: dict[str, VmoeConfig] = {
    **{f"soft_{size}": _model(size, "soft") for size in _SIZES},
    **{f"ec_{size}": _model(size, "expert_choice") for size in _SIZES},
}
