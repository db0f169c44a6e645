"""`byways bench pathways`: experts as dataflow beside the best dropless program that we have."""

from __future__ import annotations

import os
import statistics
from typing import Any

import jax

from .moe import WHATS, circumstances
from .pathways_layer import (
    Case,
    Road,
    awake_alone,
    dataflow,
    dense,
    jitted,
    make_case,
    usual_and_ours,
)
from .pathways_settings import CASES, BenchPathways, check_pathways
from .pathways_targets import targets
from .pathways_work import work
from .programs import What
from .rounds import Rounds, time_rounds

# Rounds in which the best single program and the best number of devices are found.
TRIAL = 7


def bench_pathways(settings: BenchPathways, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """Times the lowered layer beside the best single `jit`, in turns.

    `train` is forward and backward with gradients by tokens, router and experts. The single
    program returns them as arrays (E, …), zeros for who sleeps; the dataflow returns an array for
    each expert that is awake and none for the others, which is what an optimiser that leaves
    sleeping experts alone needs. The best program and number of devices are found in a trial
    whose times do not count.

    Args:
        settings: sizes.
        only: cases; all, if none is named.

    Returns:
        `forward` and `train`: {case: median ratio of the dataflow's time to the best single
        program's}; `dense`: {"forward", "train"}: {case: {"jit", "pathways"}: ratios to a dense
        MLP of the same FLOPs}; `gains`: {"forward", "train"}: {case: see `_gains`}; `details`:
        {"forward", "train"}: {case: {"ms": {road: ms}, "quartiles": of the ratio, "jit":
        which program, "devices": of the dataflow, "by_devices": {number: ratio},
        "awake": experts, "work": see `work`}}; `targets`, [{"name", "value", "wanted", "met"}];
        `settings`, `device`, `versions`, `load` (of the machine, as it began).

    Raises:
        UsageError: settings that make no layer; no such case.
    """
    check_pathways(settings, only)
    load = os.getloadavg()[0]
    parts: dict[str, Any] = {"forward": {}, "train": {}}
    dense_part: dict[str, Any] = {"forward": {}, "train": {}}
    gains: dict[str, Any] = {"forward": {}, "train": {}}
    details: dict[str, Any] = {"forward": {}, "train": {}}
    for name in CASES:
        if only and name not in only:
            continue
        case = make_case(settings, name)
        for what in WHATS:
            row = _row(case, what)
            parts[what][name] = row.pop("ratio")
            dense_part[what][name] = row.pop("dense")
            gains[what][name] = row.pop("gains")
            details[what][name] = row
    return {
        **parts,
        "dense": dense_part,
        "gains": gains,
        "details": details,
        "targets": targets(parts),
        **circumstances(settings),
        "load": load,
    }


def _row(case: Case, what: What) -> dict[str, Any]:
    settings = case.settings
    single, options, jit = _best_single(case, what)
    counts = [n for n in settings.devices if n <= len(jax.devices())] or [1]
    flows = {f"pathways ×{n}": dataflow(case, what, jax.devices()[:n]) for n in counts}
    chosen = _best(flows)
    plain = _best_of(dense, case, what)
    roads = {"jit": jit, **flows, "dense": plain}
    asleep = len(case.awake) < settings.experts
    if asleep:
        roads["awake alone"] = awake_alone(case, what, options)
    rounds = time_rounds(roads, settings.repeats)
    return {
        "ratio": rounds.ratio(chosen, "jit"),
        "dense": {
            "jit": rounds.ratio("jit", "dense"),
            "pathways": rounds.ratio(chosen, "dense"),
        },
        "gains": _gains(rounds, "awake alone" if asleep else "jit", list(flows)),
        "quartiles": rounds.quartiles(chosen, "jit"),
        "ms": {name: 1e3 * rounds.median(name) for name in roads},
        "jit": single,
        "devices": counts[list(flows).index(chosen)],
        "by_devices": {
            str(n): rounds.ratio(flow, "jit") for n, flow in zip(counts, flows, strict=True)
        },
        "awake": len(case.awake),
        "work": work(case, what),
    }


def _gains(rounds: Rounds, awake: str, flows: list[str]) -> dict[str, float]:
    """Where the time goes that the dataflow saves, in shares of the single program's.

    `sleeping`: what the same program saves over experts that are awake alone, in the same blocks.
    `products`: what the dataflow on one device saves beyond that: each expert's rows in one product
    rather than in blocks in a loop, less all that dispatching costs. `devices`: what the
    most devices save beyond one; below zero where moving rows costs more than it gains.
    """
    times = rounds.seconds

    def share(road: str, other: str) -> float:
        each = zip(times[road], times[other], times["jit"], strict=True)
        return statistics.median((a - b) / c for a, b, c in each)

    found = {"sleeping": share("jit", awake), "products": share(awake, flows[0])}
    if len(flows) > 1:
        found["devices"] = share(flows[0], flows[-1])
    return found


def _best_single(case: Case, what: What) -> tuple[str, dict[str, str], Road]:
    """The fastest of the dispatchers that can be dropless, with the options that suit it."""
    # On a CPU `grouped` is `blocked`; compiled as it is, so is `pathways`, behind a call's mark.
    names = ["blocked", "pathways"]
    if jax.default_backend() != "cpu":
        names.append("grouped")
    roads = {
        f"{name}, {how} options": (options, jitted(case, what, name, options))
        for name in names
        for how, options in usual_and_ours().items()
    }
    best = _best({name: road for name, (_, road) in roads.items()})
    return best, *roads[best]


def _best_of(make: Any, case: Case, what: What) -> Road:
    roads = {how: make(case, what, options) for how, options in usual_and_ours().items()}
    return roads[_best(roads)]


def _best(roads: dict[str, Road]) -> str:
    if len(roads) == 1:
        return next(iter(roads))
    trial = time_rounds(roads, TRIAL)
    return min(roads, key=trial.median)
