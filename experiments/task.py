"""What the trainer needs to know of a kind of experiment; it knows nothing else of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Key

from ..models import MoeConfig
from .objective import Batch, Objective, Params


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of experiment, made of its config.

    Attributes:
        modalities: names of what the routing sums tell apart.
        blank: so many rows of zeros, as the model takes them.
        init: draws the parameters.
        objective: the loss, its named parts, and the routing sums of each sparse block.
        seen: those whose tokens a sparse block meets, by the block's name.
        routers: the config of the routing in a sparse block, by the block's name.
        flops: model and hardware FLOPs of a training step on a batch.
    """

    modalities: tuple[str, ...]
    seen: Callable[[str], tuple[str, ...]]
    blank: Callable[[int], Batch]
    init: Callable[[Key[Array, ""]], Params]
    objective: Objective
    routers: Callable[[str], MoeConfig]
    flops: Callable[[dict[str, np.ndarray]], tuple[float, float]]
