"""What the shapes of CLIP's and SigLIP's weights tell of the model."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

from ..two_tower_config import TwoTowerConfig
from .errors import WeightsError
from .foreign_json import Settings

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class StackSizes:
    """D, H and L of a tower."""

    width: int
    hidden: int
    depth: int


def stack_sizes(shapes: Shapes, blocks: str, up: str, where: str) -> StackSizes:
    """Of the blocks whose names begin so, and whose first MLP layer is called so.

    Raises:
        WeightsError: there is none.
    """
    # As many as there are numbers: were one left out, its names would be missed.
    numbers = {
        match[1] for name in shapes if (match := re.match(re.escape(blocks) + r"(\d{1,4})\.", name))
    }
    hidden, width = of_rank(shapes, f"{blocks}0.{up}.weight", 2, where)
    return StackSizes(width, hidden, len(numbers))


def of_rank(shapes: Shapes, name: str, rank: int, where: str) -> tuple[int, ...]:
    """The shape of an array that must be there.

    Raises:
        WeightsError: it is not, or has another rank, or no elements.
    """
    if name not in shapes:
        raise WeightsError(f"{where}: {name} is missing; not such a model, or not all of it")
    shape = shapes[name]
    if len(shape) != rank or 0 in shape:
        raise WeightsError(f"{where}: {name} has shape {shape}, expected {rank} axes")
    return shape


def image_side(positions: int, patch: int, given: Settings) -> int:
    """Pixels of a square image of so many patches.

    Args:
        positions: one for each patch.
        patch: pixels of its side.
        given: may have an `image_size`, that of images with a rest of pixels that fill no patch
            (SigLIP's 384 by 14).

    Raises:
        WeightsError: the positions make no square, or not that of the size.
    """
    side = math.isqrt(positions)
    if side**2 != positions:
        raise WeightsError(f"{given.where}: {positions} positions of patches are no square")
    size = given.size("image_size", side * patch)
    if size // patch != side:
        raise given.wrong("image_size", f"{side} patches of {patch}, as the weights have it")
    return size


def check_heads(config: TwoTowerConfig, where: str) -> None:
    """Raise WeightsError where heads do not divide a tower's width."""
    for tower in (config.image, config.text):
        if tower.width % tower.heads:
            raise WeightsError(
                f"{where}: width {tower.width} does not divide into {tower.heads} heads"
            )
