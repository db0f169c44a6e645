"""`byways claims`: the papers' claims, run again here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import tyro

from .claims.claim import Claim
from .claims.planning import other_scale, plan_of
from .claims.registry import CLAIMS
from .claims.scales import Scale
from .cli_options import parse
from .errors import UsageError
from .suggest import unknown
from .sweep.plan import Plan

# More would take years here, and the plan alone minutes.
_MOST_ADDED = 100


@dataclasses.dataclass(frozen=True)
class ClaimsOptions:
    """Test claims of the papers, and write what was found: `byways claims [NAME …] [options]`.

    Runs that a claim lacks are made, a process each; each leaves a small record, by which claims
    are judged. What is recorded is not made again, and what was stopped goes on.

    Attributes:
        names: of the claims; all by default. `byways claims --list` prints them.
        list: print the claims and what they need, and do nothing.
        quick: an eighth of the steps and two seeds, in folders of their own: does it run?
        large: eight times the FLOPs of a token and sixteen times the examples, in folders of their
            own, for accelerators.
        read: train nothing: judge by the records that are there.
        dry_run: print the runs that are left and what they would cost, and write nothing.
        time: measure the paces of the arms again, in turns; let nothing else run meanwhile.
        added: seeds beyond the planned ones; the page tells them apart.
        retry_failed: try runs again that failed.
        workers: processes at a time; 0 is one for each GPU, else as many as there are cores.
        page: the Markdown that is written; pictures and records go into a folder of its name.
        runs: the folder of the runs.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    list: bool = False
    quick: bool = False
    large: bool = False
    read: bool = False
    dry_run: bool = False
    time: bool = False
    added: int = 0
    retry_failed: bool = False
    workers: int = 0
    page: Path | None = None
    runs: Path | None = None


def claims(arguments: Sequence[str]) -> int:
    """`byways claims [NAME …] [options]`"""
    options = parse(ClaimsOptions, arguments, "byways claims")
    for name in options.names:
        if name not in CLAIMS:
            raise UsageError(unknown("claim", name, CLAIMS))
    if not 0 <= options.added <= _MOST_ADDED:
        raise UsageError(f"--added {options.added}: give 0 to {_MOST_ADDED}")
    if options.quick and options.added:
        raise UsageError("--quick and --added: the quick form has two seeds; leave one out")
    chosen = [CLAIMS[name] for name in options.names or CLAIMS]
    if options.quick and options.large:
        raise UsageError("--quick and --large: choose one")
    scale: Scale = "quick" if options.quick else "large" if options.large else "full"
    runs = options.runs or Path("runs/claims" if scale == "full" else f"runs/claims-{scale}")
    page = options.page or (Path("docs/claims.md") if scale == "full" else runs / "claims.md")
    records = page.with_suffix("") / "records"
    if not (options.dry_run or options.list):
        _check_page(page)
    plan = plan_of(chosen, runs, scale, options.added)
    if options.list:
        return _list(chosen, plan)
    other = None if options.page is None else other_scale(chosen, records, scale, options.added)
    if other is not None:
        raise UsageError(
            f"--page {page}: {records} holds records of the {other} scale, which those of the "
            f"{scale} one would be written over; name another page"
        )

    from .claims.running import lacking

    left = lacking(plan, records)
    if options.dry_run:
        return _dry_run(options, plan, [run.name for run in left])
    failed = 0
    try:
        if left and not options.read:
            failed = _train(options, plan, [run.name for run in left])
    finally:
        # What was trained before an interrupt counts.
        problems = _record(options, plan, records)
    _write(options, scale, chosen, plan, page, records)
    for problem in problems:
        print(f"not recorded: {problem}")
    return 1 if failed or problems else 0


def _check_page(page: Path) -> None:
    """What would else fail after hours of training."""
    if page.is_dir():
        raise UsageError(f"--page {page} is a folder; name a file in it, as {page / 'claims.md'}")
    folder = page.with_suffix("")
    if folder == page:
        raise UsageError(
            f"--page {page}: a name with an ending is expected, as {page}.md, since records and "
            "pictures go into the folder of the name without it"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--page {page}: records go into the folder {folder}, which is a file")
    above = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        what = "may not be written in" if above.is_dir() else "is a file"
        raise UsageError(f"--page {page}: {above} {what}; name another page")


def _list(chosen: Sequence[Claim], plan: Plan) -> int:
    for claim in chosen:
        print(
            f"{claim.name:<22} {claim.title} ({len(claim.seeds)} seeds of {len(claim.arms)} arms)"
        )
    print(f"\n{len(plan.runs)} runs in all; `byways claims NAME` does what a claim needs")
    return 0


def _dry_run(options: ClaimsOptions, plan: Plan, left: Sequence[str]) -> int:
    from .cli_sweep import print_costs
    from .sweep.places import places

    runs = [run for run in plan.runs if run.name in left]
    if not runs:
        print("every run is recorded; `byways claims --read` writes the page again")
        return 0
    print_costs(plan, runs, places(options.workers, 0), measure=True)
    return 0


def _train(options: ClaimsOptions, plan: Plan, left: Sequence[str]) -> int:
    from .cli_sweep import print_outcomes
    from .sweep.checks import check_folders, check_plan
    from .sweep.local import LocalPool
    from .sweep.places import places
    from .sweep.pool import PoolSettings, run_plan, sweep_lock
    from .sweep.table import SweepTable

    check_plan(plan)
    check_folders(plan)
    own = places(options.workers, 0)
    settings = PoolSettings(only=tuple(left), retry_failed=options.retry_failed)
    plan.folder.mkdir(parents=True, exist_ok=True)
    with sweep_lock(plan), SweepTable(plan, len(own)) as table:
        outcomes = run_plan(plan, settings, table.update, LocalPool(own))
    return print_outcomes(plan, outcomes)


def _record(options: ClaimsOptions, plan: Plan, records: Path) -> list[str]:
    if options.read:
        return []
    from .claims.running import gather, keep_experts
    from .sweep.places import places

    problems = gather(plan, records, len(places(options.workers, 0)))
    keep_experts(plan, records.parent)
    return problems


def _write(
    options: ClaimsOptions,
    scale: Scale,
    chosen: Sequence[Claim],
    plan: Plan,
    page: Path,
    records: Path,
) -> None:
    from .claims.page_writer import Page, write_page
    from .claims.running import read_records, timing_of

    timing = timing_of(records.parent / "timing.json", plan, chosen, options.time)
    # A page of some claims would forget the others: those are judged by their records as well.
    every = list(CLAIMS.values())
    found = read_records(every, records, scale)
    judged = write_page(Page(page, records, timing, scale), every, found)
    names = {claim.name for claim in chosen}
    for one in judged:
        if one.claim.name in names:
            print(f"{one.claim.name:<22} {one.verdict}")
    print(f"written: {page}")
