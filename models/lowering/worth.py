"""Which sparse layers of a lowered function are faster apart, by the cost model and what it saw."""

from __future__ import annotations

import bisect

import jax

from .calibration import calibrate
from .cost import Calibration
from .layer_work import LayerWork
from .lowered import Lowered


def layer_works(lowered: Lowered) -> list[LayerWork]:
    """The work of each sparse layer in the last run."""
    found = []
    for call, one in zip(lowered.cut.experts, lowered.switches, strict=True):
        width, hidden = one.params[0].shape
        rows = call.rows.aval.shape[0]  # pyright: ignore[reportAttributeAccessIssue]
        counts, devices = tuple(one.last.tolist()), len(lowered.slices)
        pairs = _pairs(rows, len(counts))
        found.append(LayerWork(counts, width, hidden, pairs, devices, one.together))
    return found


def _pairs(rows: int, experts: int) -> int:
    """The fewest pairs for which a layer has so many rows or more.

    The rows are the pairs and as many as the last block may reach past them. Under a capacity they
    can be fewer than the pairs, with a block for all of these, and often no number makes just them.
    """
    none = (0,) * experts
    return bisect.bisect_left(
        range(rows), rows, key=lambda pairs: LayerWork(none, 1, 1, pairs).most_rows
    )


def worth_apart(lowered: Lowered, train: bool, costs: Calibration | None = None) -> tuple[int, ...]:
    """Numbers of the sparse layers that are faster as pathways, at the counts of the last run.

    Args:
        lowered: with all layers apart, run at least once.
        train: forward and backward, or forward alone.
        costs: of the device; None measures them, once in a process, on a device of this one.
    """
    if costs is None:
        device = lowered.devices[0]
        # Of an island elsewhere the first device here is measured in its stead.
        costs = calibrate(device if isinstance(device, jax.Device) else None)
    return tuple(
        number
        for number, work in enumerate(layer_works(lowered))
        if costs.choose(work, train) == "pathways"
    )
