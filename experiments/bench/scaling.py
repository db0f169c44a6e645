"""What more experts cost when each token still meets one: nothing but their weights, ideally."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from .layers import inputs, sparse_layer
from .moe import WHATS, circumstances
from .pairs import time_pairs
from .programs import build
from .settings import SCALING, BenchMoe, check


def bench_scaling(
    settings: BenchMoe = SCALING, experts: Sequence[int] = (8, 32, 128)
) -> dict[str, Any]:
    """Time the index path with more and more experts, each beside the fewest, in turns.

    Args:
        settings: all but the number of experts.
        experts: numbers E, the reference first.

    Returns:
        `rows`, one per E: {"experts", "forward", "train"}, each {"ms", "ratio" to the first,
        "quartiles", "fastest", "gflop", "flop_ratio", "bytes_accessed", "bytes_ratio"};
        `settings`, `device`, `versions`, `load`.

    Raises:
        UsageError: settings that make no layer.
    """
    load = os.getloadavg()[0]
    sizes = [check(dataclasses.replace(settings, experts=number)) for number in experts]
    rows: list[dict[str, Any]] = [{"experts": number} for number in experts]
    x = inputs(settings)
    for what in WHATS:
        reference = build(sparse_layer(sizes[0], "index", False), x, what, {})
        for row, size in zip(rows, sizes, strict=True):
            program = reference
            if size is not sizes[0]:
                program = build(sparse_layer(size, "index", False), x, what, {})
            pairs = time_pairs(program.run, reference.run, settings.repeats)
            row[what] = {
                "ms": pairs.first_median,
                "ratio": pairs.ratio,
                "quartiles": pairs.quartiles,
                "fastest": pairs.fastest,
                "gflop": program.flops / 1e9,
                "flop_ratio": program.flops / reference.flops,
                "bytes_accessed": program.bytes_accessed,
                "bytes_ratio": program.bytes_accessed / reference.bytes_accessed,
            }
    return {"rows": rows, **circumstances(settings), "load": load}
