"""What V-MoE some arrays are the parameters of, read off their names and shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from ..config import MoeConfig, sparse_blocks
from ..vmoe_config import VmoeConfig
from .errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]


def vmoe_config_of(shapes: Shapes) -> VmoeConfig:
    """The config whose model has these parameters.

    What no parameter tells keeps V-MoE's usual value: K = 2, capacity factor 1.05 rounded up to a
    multiple of 4, noise in units of 1/E.

    Args:
        shapes: by name, the path joined by `/`.

    Raises:
        WeightsError: they are not those of a V-MoE or a ViT; what is missing or odd is named.
    """
    patch, patch_too, colours, width = _shape(shapes, "embedding/kernel", 4)
    if patch != patch_too or colours != 3:
        raise WeightsError(
            f"embedding/kernel is {shapes['embedding/kernel']}; expected (P, P, 3, D) of square "
            "patches of red, green and blue"
        )
    numbers = {
        int(found.group(1)) for name in shapes if (found := re.match(_BLOCK + r"(\d+)/", name))
    }
    depth = len(numbers)
    if not depth or numbers != set(range(depth)):
        raise WeightsError(f"blocks {sorted(numbers)[:8]} under Encoder/; expected 0, 1, 2, ...")
    heads = _shape(shapes, f"{_BLOCK}0/SelfAttention/query/kernel", 3)[1]
    moe, hidden = _experts(shapes, depth)
    token = "cls" in shapes
    position = "Encoder/posembed_input/pos_embedding"
    if position not in shapes:
        raise WeightsError(
            f"{position} is missing: without learned positions nothing tells the size of the images"
        )
    side = math.isqrt(max(_shape(shapes, position, 3)[1] - token, 0))
    pooled = any(name.startswith("MAPHead_0/") for name in shapes)
    return VmoeConfig(
        image_size=side * patch,
        patch_size=patch,
        width=width,
        hidden=hidden,
        depth=depth,
        heads=heads,
        num_classes=_shape(shapes, "head/kernel", 2)[1] if "head/kernel" in shapes else 0,
        classifier="token" if token else "map" if pooled else "gap",
        pre_logits="pre_logits/kernel" in shapes,
        qk_norm=f"{_BLOCK}0/SelfAttention/query_ln/scale" in shapes,
        moe=moe,
    )


_BLOCK = "Encoder/encoderblock_"


def _shape(shapes: Shapes, name: str, rank: int) -> tuple[int, ...]:
    if name not in shapes:
        raise WeightsError(f"{name} is missing: these are not the parameters of a V-MoE or a ViT")
    if len(shapes[name]) != rank:
        raise WeightsError(f"{name} has shape {shapes[name]}; expected {rank} axes")
    return shapes[name]


def _experts(shapes: Shapes, depth: int) -> tuple[MoeConfig, int]:
    """The sparse blocks' config, and H."""
    sparse = tuple(i for i in range(depth) if f"{_BLOCK}{i}/Moe/Router/dense/kernel" in shapes)
    dense = [i for i in range(depth) if i not in sparse]
    usual = {
        "selected": 2,
        "capacity_factor": 1.05,
        "capacity_multiple_of": 4,
        "batch_priority": False,
    }
    if not sparse:
        hidden = _shape(shapes, f"{_BLOCK}{dense[0]}/Mlp/Dense_0/kernel", 2)[1]
        return MoeConfig(placement="none", **usual), hidden
    experts, _, hidden = _shape(shapes, f"{_BLOCK}{sparse[0]}/Moe/Mlp/Dense_0/kernel", 3)
    usual["selected"] = min(2, experts)
    for placement in ("every", "last", "final"):
        for n in range(1, depth + 1):
            moe = MoeConfig(placement=placement, n=n, num_experts=experts, **usual)
            if sparse_blocks(moe, depth) == sparse:
                return moe, hidden
    raise WeightsError(
        f"blocks {list(sparse)} of {depth} are sparse; known are every n-th, the last n odd "
        "ones, or the last n"
    )
