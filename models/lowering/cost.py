"""Which way a sparse layer is faster for given counts, by a model measured on the device at start.

Both ways cost what they always cost; something for each thing that they start (a block in the
fused loop, a program of the pathways); something for each run of rows that
is multiplied at once, however short (weights are read and packed, gradients written); and a rate
for rows. The fused layer pays for experts that sleep, too: their weights are taken out of the
stack and, in training, their gradients are zeros.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from .layer_work import LayerWork

Execution = Literal["fused", "pathways"]

# Rows of a run that cost the most.
FIRST = 64


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of one way in one direction. All are 0 or more.

    Attributes:
        always: of a call; for the pathways the read of the counts is in it.
        start: of a block in the fused loop, or of a program.
        every: of each weight of all E experts, awake or not.
        weight: of each weight of an expert, for every run of rows that it is multiplied with.
        row: of each row times each weight, of the first 64 of a run.
        long: the same of the rows beyond: long products are faster.
    """

    always: float
    start: float
    every: float
    weight: float
    row: float
    long: float

    def product(self, weights: int, rows: int) -> float:
        """Seconds of a run of rows with an expert of so many weights."""
        first = min(rows, FIRST)
        return weights * (self.weight + first * self.row + (rows - first) * self.long)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What the device was measured to take.

    Attributes:
        fused, pathways: (forward, forward and backward).
        shared: the devices are parts of one processor, so that programs on two of them share it.
        seconds: that measuring took.
    """

    fused: tuple[Costs, Costs]
    pathways: tuple[Costs, Costs]
    shared: bool
    seconds: float

    def estimate(self, layer: LayerWork, train: bool) -> dict[Execution, float]:
        """Seconds of either way, but for what both have to do outside of the experts.

        Examples:
            >>> from byways.models import Calibration, Costs, LayerWork
            >>> alike = {"weight": 1e-9, "row": 1e-11, "long": 1e-11}
            >>> fused = Costs(always=0.0, start=1e-5, every=1e-9, **alike)
            >>> apart = Costs(always=1e-3, start=1e-4, every=0.0, **alike)
            >>> costs = Calibration((fused, fused), (apart, apart), shared=True, seconds=1.0)
            >>> layer = LayerWork((64, 0, 0, 0), width=100, hidden=500, pairs=64)
            >>> found = costs.estimate(layer, train=True)
            >>> {name: round(1e3 * seconds, 2) for name, seconds in found.items()}
            {'fused': 0.68, 'pathways': 1.26}
            >>> costs.choose(layer, train=True)
            'fused'
        """
        weights = 2 * layer.width * layer.hidden
        one = self.fused[train]
        fused = one.always + len(layer.counts) * weights * one.every
        fused += sum(one.start + one.product(weights, block) for block in layer.blocks)
        one = self.pathways[train]
        homes = [0.0] * layer.devices
        for home, count, bucket in layer.programs:
            homes[home] += one.start + count * one.product(weights, bucket)
        apart = one.always + (sum(homes) if self.shared else max(homes))
        return {"fused": fused, "pathways": apart}

    def choose(self, layer: LayerWork, train: bool) -> Execution:
        """The faster way."""
        found = self.estimate(layer, train)
        return "fused" if found["fused"] <= found["pathways"] else "pathways"
