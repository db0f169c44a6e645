"""`byways sweep`: many runs, a process each."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path

import tyro

from .cli_options import parse
from .errors import UsageError
from .parameter_counts import short
from .sweep.checks import check_folders, check_plan, picked
from .sweep.executor import Executor
from .sweep.expand import ROOT, plan_of
from .sweep.local import LocalPool
from .sweep.places import Place, places
from .sweep.plan import Plan, PlannedRun
from .sweep.pool import Outcome, PoolSettings, run_plan
from .sweep.status import failure_file, is_done
from .sweep.sweep_file import find_sweep, read_sweep, shipped


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """Train and score many runs, a process each: `byways sweep FILE|NAME [options]`.

    What is done is left alone, what was stopped goes on, what failed is tried again only if asked.

    Attributes:
        source: a sweep's file (YAML or JSON), or the name of one that ships.
        workers: processes at a time; 0 is one for each GPU, else as many as the cores allow.
        cores_each: cores of each process; 0 is one, with GPUs an even share.
        only: names of the runs to do, with those that they begin with; all by default.
        dry_run: print the plan and what it would cost, and write nothing.
        measure: with --dry-run, time a few real steps of each distinct shape.
        commands: print a command for each run that is left, for another executor.
        retry_failed: try those again that failed.
        evaluate: score each run that is trained.
        root: the sweep's folder is made in it.
    """

    source: tyro.conf.Positional[str]
    workers: int = 0
    cores_each: int = 0
    only: tuple[str, ...] = ()
    dry_run: bool = False
    measure: bool = True
    commands: bool = False
    retry_failed: bool = False
    evaluate: bool = True
    root: Path = ROOT


def sweep(arguments: Sequence[str]) -> int:
    """`byways sweep FILE|NAME [options]`"""
    if not arguments:
        raise UsageError(f"name a sweep's file, or one that ships: {', '.join(shipped())}")
    options = parse(SweepOptions, arguments, "byways sweep")
    plan = plan_of(read_sweep(find_sweep(options.source)), options.root)
    runs = picked(plan, options.only)
    check_plan(plan)
    check_folders(plan)
    own = [Place((), {})]
    if not (options.only and not options.workers and not options.cores_each):
        own = places(options.workers, options.cores_each)
    if options.commands:
        for run in runs:
            if not is_done(plan, run):
                print(command(options, run))
        return 0
    if options.dry_run:
        print_costs(plan, runs, own, options.measure)
        return 0
    # Another executor's process keeps to the cores that this gave it.
    return _run(options, plan, LocalPool(own), len(own))


def command(options: SweepOptions, run: PlannedRun) -> str:
    """The shell's words that do one run, with all that it begins with."""
    words = ["byways", "sweep", options.source, "--only", run.name]
    if options.root != ROOT:
        words += ["--root", str(options.root)]
    words += [] if options.evaluate else ["--no-evaluate"]
    words += ["--retry-failed"] if options.retry_failed else []
    return shlex.join(words)


def _run(options: SweepOptions, plan: Plan, executor: Executor, workers: int) -> int:
    from .sweep.table import SweepTable

    settings = PoolSettings(
        evaluate=options.evaluate, retry_failed=options.retry_failed, only=options.only
    )
    with SweepTable(plan, workers) as table:
        outcomes = run_plan(plan, settings, table.update, executor)
    return print_outcomes(plan, outcomes, options.retry_failed)


def print_outcomes(plan: Plan, outcomes: Sequence[Outcome], retried: bool = False) -> int:
    """Tells what became of the runs; the exit code is 1 where some are not done."""
    left = [one for one in outcomes if one.state not in ("done", "trained")]
    if not left:
        count = f"{len(outcomes)} runs" if len(outcomes) > 1 else "1 run"
        print(f"{count} done: {plan.folder}; next: byways compare {plan.folder}")
        return 0

    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{len(left)} of {len(outcomes)} runs are not done")
    for name in ("run", "state", "why"):
        table.add_column(name, overflow="fold")
    for one in left:
        why = one.reason
        if one.state == "failed":
            why += f"\n{failure_file(plan, plan.run(one.name))}"
        table.add_row(one.name, one.state, why)
    console = Console(highlight=False)
    console.print(table, markup=False)
    if any(one.state == "failed" for one in left) and not retried:
        print("once mended, --retry-failed tries the failed ones again")
    return 1


def print_costs(
    plan: Plan, runs: Sequence[PlannedRun], own: Sequence[Place], measure: bool
) -> None:
    """Tells what runs would cost; writes nothing.

    Args:
        plan, runs: those of a plan.
        own: places, each for a run at a time.
        measure: time a few real steps of each distinct shape.
    """
    from rich.console import Console
    from rich.table import Table

    from .progress import clock
    from .sweep.estimate import STEPS, estimate, finish

    costs = estimate(plan, runs, own[0], STEPS if measure else 0)
    table = Table(title=f"{plan.name}: {len(runs)} runs in {plan.folder}")
    table.add_column("run", overflow="fold")
    table.add_column("state")
    for name in ("parameters", "awake", "FLOPs", "minutes"):
        table.add_column(name, justify="right")
    for run, cost in zip(runs, costs, strict=True):
        table.add_row(
            cost.run + (f" (after {run.begins_with})" if run.begins_with else ""),
            cost.state,
            short(cost.parameters),
            short(cost.awake),
            "" if cost.flops is None else f"{cost.flops:.2g}",
            "" if cost.seconds is None else f"{cost.seconds / 60:.1f}",
        )
    Console(highlight=False).print(table)
    left = finish(plan, costs, len(own))
    if left is not None:
        print(
            f"{clock(left)} of training with {len(own)} at a time; scoring not counted. Nothing "
            "was written"
        )
