"""`byways bench auto`: whether `auto` takes the faster way, over many sizes of a layer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ...models import Calibration, LayerWork, calibrate
from ..chooser import Chooser
from .auto_settings import BenchAuto, check_auto
from .moe import WHATS, circumstances
from .pathways_layer import Case, dataflow, jitted, make_case
from .pathways_settings import BenchPathways
from .programs import What
from .rounds import time_rounds


def bench_auto(settings: BenchAuto) -> dict[str, Any]:
    """Times each layer both ways on one device, and lets both of `auto`'s means choose.

    `tried` is the way that a run takes: it times some of its own calls. `model` is what the cost
    model says of the layer's counts, which chooses among layers; it was calibrated on a layer of
    another size before the sweep. Both choose before the rounds by which they are judged.

    Returns:
        `rows`: [{"tokens", "width", "experts", "awake", "what", "fused", "pathways": ms,
        "estimated": {"fused", "pathways"}: ms of the model, which leaves out what both do,
        "tried", "model": ways, "of_best": {"tried", "model"}: the way's time over that of the
        better one}]; by means, `within`: share of rows whose `of_best` is within the tolerance,
        and `worst`; `of_best`: the means over rows of `of_best`, and of always `fused` and always
        `pathways`; `calibration`: seconds that it took; `choosing`: microseconds of the model;
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
    means = ("tried", "model")
    return {
        "rows": rows,
        "within": {
            by: sum(row["of_best"][by] <= 1 + settings.tolerance for row in rows) / len(rows)
            for by in means
        },
        "worst": {by: max(row["of_best"][by] for row in rows) for by in means},
        "of_best": {by: sum(row["of_best"][by] for row in rows) / len(rows) for by in means}
        | {
            way: sum(row[way] / min(row["fused"], row["pathways"]) for row in rows) / len(rows)
            for way in ("fused", "pathways")
        },
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
    tried = _tried(roads)
    counts = tuple(case.counts.tolist())
    begin = time.perf_counter()
    work = LayerWork(counts, layer.width, layer.hidden, layer.tokens)
    model = costs.choose(work, what == "train")
    took = time.perf_counter() - begin
    rounds = time_rounds(roads, repeats)
    best = rounds.median(min(roads, key=rounds.median))
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
        "tried": tried,
        "model": model,
        "of_best": {
            by: rounds.median(way) / best for by, way in (("tried", tried), ("model", model))
        },
    }
    return row, took


def _tried(roads: Mapping[str, Callable[[], Any]]) -> str:
    """The way that a run takes, after it has timed calls of both."""
    chooser = Chooser()
    while not chooser.decided:
        began = time.perf_counter()
        roads[chooser.now]()
        chooser.saw(time.perf_counter() - began)
    return chooser.now
