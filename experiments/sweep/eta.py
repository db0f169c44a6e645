"""When a sweep will be done, by what its runs have shown so far."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from .plan import Plan
from .status import RunStatus


def seconds_left(plan: Plan, rows: Sequence[RunStatus], workers: int) -> float | None:
    """Seconds until all rows are done; None before any has shown a speed.

    A run that has not begun is taken to be as fast, in examples per second, as those of its
    preset were, or as all were. Scoring, and runs that failed, are not counted.

    Args:
        plan: of the runs.
        rows: of the chosen runs.
        workers: how many run at a time.
    """
    speeds: dict[str, list[float]] = {}
    for row in rows:
        if row.examples_per_second:
            speeds.setdefault(plan.run(row.name).preset, []).append(row.examples_per_second)
    if not speeds:
        return None
    anyhow = fmean(speed for found in speeds.values() for speed in found)
    left = []
    for row in rows:
        if row.state not in ("waiting", "running", "interrupted"):
            continue
        run = plan.run(row.name)
        speed = row.examples_per_second or fmean(speeds.get(run.preset, [anyhow]))
        left.append((row.steps - row.step) * run.config.batch_size / speed)
    return max([sum(left) / max(1, workers), *left]) if left else 0.0
