"""`byways bench auto`: whether the cost model takes the faster way, over many sizes of a layer."""

from __future__ import annotations

import os
import time
from typing import Any

import jax

from ...models import Calibration, LayerWork, calibrate
from .auto_settings import BenchAuto, check_auto
from .moe import WHATS, circumstances
from .pathways_layer import Case, dataflow, jitted, make_case
from .pathways_settings import BenchPathways
from .programs import What
from .rounds import time_rounds


def bench_auto(settings: BenchAuto) -> dict[str, Any]:
    """Times each layer both ways on one device, and asks the cost model.

    The model was calibrated on a layer of another size before the sweep, and is given the counts.
    What `auto` takes is the way that it chose. Choosing is told apart: whoever runs batches knows
    the counts of earlier ones, and chooses while the devices are at work.

    Returns:
        `rows`: [{"tokens", "width", "experts", "awake", "what", "fused", "pathways": ms,
        "estimated": {"fused", "pathways"}: ms of the model, which leaves out what both do,
        "chosen", "of_best": time of `auto` over that of the better way}]; `within`: share of rows
        whose `of_best` is within the tolerance; `worst`; `fused_of_best` and
        `pathways_of_best`: the mean of a way's time over the better one's, were it taken always,
        and `auto_of_best`; `calibration`: seconds that it took; `choosing`: microseconds;
        `settings`, `device`, `versions`, `load`.

    Raises:
        UsageError: settings that cannot be measured.
    """
    check_auto(settings)
    load = os.getloadavg()[0]
    costs = calibrate()
    rows, choosing = [], []
    for layer in settings.layers:
        case = make_case(layer, "skewed" if layer.awake < layer.experts else "balanced")
        for what in WHATS:
            row, took = _row(layer, case, what, costs, settings.repeats)
            rows.append(row)
            choosing.append(took)
    share = sum(row["of_best"] <= 1 + settings.tolerance for row in rows) / len(rows)
    means = {
        f"{way}_of_best": sum(row[way] / min(row["fused"], row["pathways"]) for row in rows)
        / len(rows)
        for way in ("fused", "pathways")
    }
    return {
        "rows": rows,
        "within": share,
        "worst": max(row["of_best"] for row in rows),
        **means,
        "auto_of_best": sum(row["of_best"] for row in rows) / len(rows),
        "calibration": costs.seconds,
        "choosing": 1e6 * sorted(choosing)[len(choosing) // 2],
        **circumstances(settings),
        "load": load,
    }


def _row(
    layer: BenchPathways, case: Case, what: What, costs: Calibration, repeats: int
) -> tuple[dict[str, Any], float]:
    roads = {
        "fused": jitted(case, what, "blocked", {}),
        "pathways": dataflow(case, what, jax.devices()[:1]),
    }
    rounds = time_rounds(roads, repeats)
    counts = tuple(case.counts.tolist())
    begin = time.perf_counter()
    work = LayerWork(counts, layer.width, layer.hidden, layer.tokens)
    chosen = costs.choose(work, what == "train")
    took = time.perf_counter() - begin
    best = min(roads, key=rounds.median)
    row = {
        "tokens": layer.tokens,
        "width": layer.width,
        "experts": layer.experts,
        "awake": len(case.awake),
        "what": what,
        **{name: 1e3 * rounds.median(name) for name in roads},
        "estimated": {
            name: 1e3 * seconds for name, seconds in costs.estimate(work, what == "train").items()
        },
        "chosen": chosen,
        "of_best": rounds.median(chosen) / rounds.median(best),
    }
    return row, took
