"""V-MoE at the sizes of the paper (Riquelme et al., arXiv 2106.05974) and of the released files.

The paper's models were trained on JFT-300M: 18,291 classes, a tanh layer before the head
(15B: 29,593 classes and no such layer).
"""

from __future__ import annotations

import dataclasses

from .config import MoeConfig
from .vmoe_config import VmoeConfig

# name: D, H, L, heads, patch.
_SIZES = {
    "s32": (512, 2048, 8, 8, 32),
    "b32": (768, 3072, 12, 12, 32),
    "b16": (768, 3072, 12, 12, 16),
    "l32": (1024, 4096, 24, 16, 32),
    "l16": (1024, 4096, 24, 16, 16),
    "h14": (1280, 5120, 32, 16, 14),
    "15b": (1408, 6400, 48, 16, 14),
}
_EVERY = MoeConfig(
    placement="every",
    n=2,
    num_experts=32,
    selected=2,
    capacity_factor=1.05,
    capacity_multiple_of=4,
)
_DENSE = dataclasses.replace(_EVERY, placement="none")


def _model(size: str, moe: MoeConfig, **changes) -> VmoeConfig:
    width, hidden, depth, heads, patch = _SIZES[size]
    config = VmoeConfig(
        patch_size=patch,
        width=width,
        hidden=hidden,
        depth=depth,
        heads=heads,
        num_classes=18_291,
        pre_logits=True,
        head_bias=-10.0,
    )
    # Eight images' tokens make a group, as in the paper.
    config = dataclasses.replace(config, **changes)
    return dataclasses.replace(
        config, moe=dataclasses.replace(moe, group_size=8 * config.num_tokens)
    )


def _last(number: int) -> MoeConfig:
    return dataclasses.replace(_EVERY, placement="last", n=number)


_RELEASED = {"pre_logits": False, "head_bias": 0.0}

VMOE: dict[str, VmoeConfig] = {
    **{f"vit_{size}": _model(size, _DENSE) for size in _SIZES if size != "15b"},
    **{f"vmoe_{size}": _model(size, _EVERY) for size in _SIZES if size != "15b"},
    "vmoe_l16_last2": _model("l16", _last(2)),
    "vmoe_h14_last5": _model("h14", _last(5)),
    "vmoe_15b": _model("15b", _EVERY, num_classes=29_593, pre_logits=False),
    "vmoe_s32_ilsvrc": _model(
        "s32", dataclasses.replace(_last(2), num_experts=8), num_classes=1000, head_bias=0.0
    ),
    "vmoe_b16_imagenet21k": _model(
        "b16", dataclasses.replace(_EVERY, num_experts=8), num_classes=21_843, **_RELEASED
    ),
    "vmoe_b16_ilsvrc": _model(
        "b16",
        dataclasses.replace(_EVERY, num_experts=8, capacity_factor=1.5),
        image_size=384,
        num_classes=1000,
        **_RELEASED,
    ),
}
