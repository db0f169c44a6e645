"""Which runs the claims need: each arm once for each seed, however many claims read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ..presets import preset
from ..sweep.plan import Plan, PlannedRun
from ..sweep.values import with_values
from .arms import ARMS
from .claim import Claim

# `--quick`: an eighth of the steps, two seeds. It shows that everything runs, and decides little.
_QUICK = 8
_QUICK_SEEDS = 2


def run_name(arm: str, seed: int) -> str:
    """Of an arm's run."""
    return f"{arm}-s{seed}"


def seeds_of(claim: Claim, quick: bool = False, added: int = 0) -> tuple[int, ...]:
    """The seeds of a claim: as planned, and those added after that, which the page tells apart."""
    if quick:
        return claim.seeds[:_QUICK_SEEDS]
    return claim.seeds + tuple(range(claim.seeds[-1] + 1, claim.seeds[-1] + 1 + added))


def plan_of(claims: Sequence[Claim], folder: Path, quick: bool = False, added: int = 0) -> Plan:
    """The runs of some claims. First come all arms' first seeds, so that early ends see all.

    Args:
        claims: to be judged.
        folder: of the runs.
        quick: a short form of each run.
        added: seeds beyond the planned ones.
    """
    wanted: dict[tuple[int, str], None] = {}
    for claim in claims:
        for seed in seeds_of(claim, quick, added):
            for arm in claim.arms:
                base = ARMS[arm].begins_with
                if base is not None:
                    wanted[seed, base] = None
                wanted[seed, arm] = None
    order = {name: number for number, name in enumerate(ARMS)}
    keys = sorted(wanted, key=lambda key: (key[0], order[key[1]]))
    return Plan("claims", folder, tuple(_run(arm, seed, quick) for seed, arm in keys))


def _run(name: str, seed: int, quick: bool) -> PlannedRun:
    arm = ARMS[name]
    config = with_values(preset(arm.preset), {**arm.values, "seed": seed})
    if quick:
        steps = max(10, config.steps // _QUICK)
        every = min(steps, config.eval_every)
        optimizer = dataclasses.replace(config.optimizer, warmup=max(1, steps // 8))
        config = dataclasses.replace(
            config, steps=steps, eval_every=every, log_every=5, optimizer=optimizer
        )
    base = None if arm.begins_with is None else run_name(arm.begins_with, seed)
    return PlannedRun(run_name(name, seed), config, arm.preset, base, arm.upcycled)
