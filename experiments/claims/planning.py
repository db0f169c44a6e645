"""Which runs the claims need: each arm once for each seed, however many claims read it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..presets import preset
from ..sweep.plan import Plan, PlannedRun
from ..sweep.values import with_values
from .arms import ARMS
from .claim import Claim
from .records import arm_of, read_record
from .scales import QUICK_SEEDS, Scale, scaled


def other_scale(
    claims: Sequence[Claim], records: Path, scale: Scale, added: int = 0
) -> Scale | None:
    """Another scale whose records a folder holds: this one's would be written over them.

    Args:
        claims: to be judged.
        records: the folder.
        scale: that is wanted.
        added: seeds beyond the planned ones.

    Raises:
        RunError: a record is damaged.
    """
    for other in ("full", "quick", "large"):
        if other == scale:
            continue
        plan = plan_of(claims, records, other, added if other != "quick" else 0)
        for run in plan.runs:
            if (
                read_record(records, arm_of(run), run.config.seed, plan.hash_of(run.name))
                is not None
            ):
                return other
    return None


def run_name(arm: str, seed: int) -> str:
    """Of an arm's run."""
    return f"{arm}-s{seed}"


def seeds_of(claim: Claim, scale: Scale = "full", added: int = 0) -> tuple[int, ...]:
    """The seeds of a claim: as planned, and those added after that, which the page tells apart."""
    if scale == "quick":
        return claim.seeds[:QUICK_SEEDS]
    return claim.seeds + tuple(range(claim.seeds[-1] + 1, claim.seeds[-1] + 1 + added))


def plan_of(claims: Sequence[Claim], folder: Path, scale: Scale = "full", added: int = 0) -> Plan:
    """The runs of some claims. First come all arms' first seeds, so that early ends see all.

    Added seeds are of the arms that questions compare, and not of those that tables alone show.

    Args:
        claims: to be judged.
        folder: of the runs.
        scale: of each run.
        added: seeds beyond the planned ones.
    """
    wanted: dict[tuple[int, str], None] = {}
    for claim in claims:
        for seed in seeds_of(claim, scale, added):
            for arm in claim.arms if seed in claim.seeds else claim.compared:
                base = ARMS[arm].begins_with
                if base is not None:
                    wanted[seed, base] = None
                wanted[seed, arm] = None
    order = {name: number for number, name in enumerate(ARMS)}
    keys = sorted(wanted, key=lambda key: (key[0], order[key[1]]))
    return Plan("claims", folder, tuple(_run(arm, seed, scale) for seed, arm in keys))


def _run(name: str, seed: int, scale: Scale) -> PlannedRun:
    arm = ARMS[name]
    config = scaled(with_values(preset(arm.preset), {**arm.values, "seed": seed}), scale)
    base = None if arm.begins_with is None else run_name(arm.begins_with, seed)
    return PlannedRun(run_name(name, seed), config, arm.preset, base, arm.upcycled)
