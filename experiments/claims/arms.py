"""Everything that is trained for the claims: small models, a minute or two each on one core.

Settings are the demo's and `vmoe_tiny`'s (docs/benchmarks/training.md, vision.md, chosen on
validation splits), made smaller. No value was chosen by a claim's outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .claim import Arm

# A picture has 16 patches and a text at most 8 pieces.
_PAIRS = {
    "model.width": 96,
    "model.hidden": 192,
    "batch_size": 128,
    "model.moe.group_size": 128 * 24,
    "log_every": 20,
    "eval_every": 100,
    "checkpoint.every": 1000,
    "checkpoint.keep_last": 1,
    "checkpoint.keep_best": 0,
}
# Trained on drawings and composed scenes, until the dense twin has flattened.
_LONG = {**_PAIRS, "steps": 1000, "data.scenes_share": 0.2}
# Half of a text is padding: about 1.05 slots for each real token, as in the paper.
_TIGHT = {**_PAIRS, "steps": 400, "model.moe.capacity_factor": 0.83, "eval_every": 400}
_CLASSES = {
    "model.width": 96,
    "model.hidden": 192,
    "batch_size": 256,
    "steps": 300,
    "log_every": 20,
    "eval_every": 100,
    "checkpoint.every": 1000,
    "checkpoint.keep_last": 1,
    "checkpoint.keep_best": 0,
}
_NO_ENTROPY = {"loss.local": [], "loss.threshold_image": 0.0, "loss.threshold_text": 0.0}
_NO_CLASSIC = {"loss.importance": False, "loss.load": False}
_TOWERS = {
    **{
        f"model.{tower}.{key}": value
        for tower in ("image", "text")
        for key, value in (
            ("width", 96),
            ("hidden", 192),
            ("depth", 4),
            ("heads", 4),
            ("moe.placement", "none"),
        )
    },
    **{key: value for key, value in _LONG.items() if not key.startswith("model.")},
}


def _all() -> list[Arm]:
    return [
        Arm("limoe", "LIMoE, 8 experts in 2 of 4 blocks, K = 1", "limoe_tiny", _LONG),
        Arm("dense", "its dense twin: one tower", "limoe_tiny_dense", _LONG),
        Arm("two-tower", "a dense tower each for images and texts, as many FLOPs in all",
            "two_tower_tiny", _TOWERS),
        Arm("losses-none", "no auxiliary loss", "limoe_tiny",
            {**_TIGHT, **_NO_ENTROPY, **_NO_CLASSIC, "loss.z": False, "loss.auxiliary": 0.0}),
        Arm("losses-classic", "importance, load and z", "limoe_tiny", {**_TIGHT, **_NO_ENTROPY}),
        Arm("losses-local", "classic and local entropy of text", "limoe_tiny",
            {**_TIGHT, **_NO_ENTROPY, "loss.local": ["text"]}),
        Arm("losses-global", "classic and global entropies", "limoe_tiny",
            {**_TIGHT, "loss.local": []}),
        Arm("losses-entropy", "entropies and z, nothing classic", "limoe_tiny",
            {**_TIGHT, **_NO_CLASSIC}),
        Arm("losses-all", "all: classic, local and global entropies", "limoe_tiny", _TIGHT),
        Arm("vmoe", "V-MoE, 8 experts in 2 of 4 blocks, K = 1, batch priority, C = 1.05",
            "vmoe_tiny", _CLASSES),
        Arm("vmoe-half", "the same trained at C = 0.5, batch priority", "vmoe_tiny",
            {**_CLASSES, "model.moe.capacity_factor": 0.5}),
        Arm("vmoe-half-vanilla", "the same trained at C = 0.5, in token order", "vmoe_tiny",
            {**_CLASSES, "model.moe.capacity_factor": 0.5, "model.moe.batch_priority": False}),
        Arm("vmoe-every", "V-MoE with experts in all 4 blocks", "vmoe_tiny",
            {**_CLASSES, "model.moe.n": 1}),
        Arm("vmoe-choice", "expert choice, C = 1", "vmoe_tiny",
            {**_CLASSES, **_NO_CLASSIC, "model.moe.router": "expert_choice",
             "model.moe.capacity_factor": 1.0}),
        Arm("vmoe-soft", "Soft MoE, as many slots as tokens", "vmoe_tiny",
            {**_CLASSES, "model.moe.router": "soft", "model.moe.soft_slots": 2,
             "model.moe.group_size": 16}),
        Arm("vit", "a dense ViT", "vmoe_tiny_dense", _CLASSES),
        Arm("vit-longer", "the ViT, trained on", "vmoe_tiny_dense", _CLASSES, begins_with="vit"),
        Arm("vmoe-upcycled", "the ViT's MLPs copied into 8 experts, trained on", "vmoe_tiny",
            _CLASSES, begins_with="vit", upcycled=True),
        Arm("vmoe-free", "loss-free balancing: a bias for each expert, no auxiliary loss",
            "vmoe_tiny", {**_CLASSES, **_NO_CLASSIC, "loss.z": False, "loss.auxiliary": 0.0,
                          "model.moe.bias": "sign"}),
        Arm("vmoe-unbalanced", "no balancing at all", "vmoe_tiny",
            {**_CLASSES, **_NO_CLASSIC, "loss.z": False, "loss.auxiliary": 0.0}),
    ]  # fmt: skip


ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in _all()})
