"""Makes the runs that claims lack, records them, and judges."""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import re
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import provenance
from ..config import Experiment
from ..errors import RunError
from ..files import write_bytes, write_json
from ..sweep.plan import Plan, PlannedRun
from ..sweep.status import is_done
from .arms import ARMS
from .claim import Claim
from .planning import plan_of, seeds_of
from .probes import is_probed
from .records import Record, arm_of, make_record, read_record, write_record
from .registry import CLAIMS
from .scales import Scale


def keys_of(arm: str) -> tuple[str, ...]:
    """All numbers that any claim reads of an arm: what its records hold."""
    claims = [claim for claim in CLAIMS.values() if arm in claim.arms]
    asked = dict.fromkeys(_asked(arm))
    shown = dict.fromkeys(key for claim in claims for key, _ in claim.tables)
    # Tables show what is there: no probe is made for a table alone.
    made = {key.split(".")[0] for key in asked}
    return tuple(k for k in asked | shown if k.split(".")[0] in made or not is_probed(k))


def lacking(plan: Plan, records: Path) -> list[PlannedRun]:
    """Runs without a record of this config, or with one that a later question wants more of."""
    found = []
    for run in plan.runs:
        record = read_record(records, *_arm(run), plan.hash_of(run.name))
        # Of curves it holds all.
        wanted = [key for key in _asked(_arm(run)[0]) if not key.startswith("curve.")]
        if record is None or not record.holds(wanted):
            found.append(run)
    return found


def _asked(arm: str) -> list[str]:
    """Numbers of an arm that questions compare."""
    sides = [side for claim in CLAIMS.values() for q in claim.questions for side in q.sides]
    return [side.key for side in sides if side.arm == arm]


def gather(
    plan: Plan, records: Path, workers: int, say: Callable[[str], None] = print
) -> list[str]:
    """Records all runs that are done and have none yet, some at a time; gives what failed.

    Args:
        plan: whose runs.
        records: the folder of records.
        workers: processes at a time.
        say: gets a line for each.
    """
    ready = [run for run in lacking(plan, records) if is_done(plan, run)]
    problems: list[str] = []
    if not ready:
        return problems
    say(f"recording runs that are done: {len(ready)} (Ctrl-C leaves the rest to the next call)")
    with concurrent.futures.ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        # A terminal's Ctrl-C reaches them too, and ends them without their tracebacks.
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_DFL),
    ) as pool:
        pending = {pool.submit(_record, plan, run, keys_of(_arm(run)[0])): run for run in ready}
        try:
            for future in concurrent.futures.as_completed(pending):
                run = pending[future]
                try:
                    write_record(records, future.result())
                    say(f"recorded {run.name}")
                except Exception as error:  # the others' records are not lost by it
                    problems.append(f"{run.name}: {error}")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return problems


def read_records(claims: Sequence[Claim], records: Path, scale: Scale) -> dict[str, list[Record]]:
    """All records of the claims' arms, by arm and seed, of the configs that arms have now; those of
    seeds added after the plan among them."""
    last = min(seeds_of(claim, scale)[-1] for claim in claims)
    files = [re.fullmatch(r"(.+)-s(\d{1,4})", file.stem) for file in records.glob("*.json")]
    seeds = [int(name[2]) for name in files if name and name[1] in ARMS]
    added = max(0, max(seeds, default=0) - last) if scale != "quick" else 0
    plan = plan_of(claims, Path(), scale, added)
    found: dict[str, list[Record]] = {}
    for run in plan.runs:
        arm, seed = _arm(run)
        record = read_record(records, arm, seed, plan.hash_of(run.name))
        if record is not None:
            found.setdefault(arm, []).append(record)
    return found


def timing_of(file: Path, plan: Plan, claims: Sequence[Claim], measure: bool) -> dict[str, Any]:
    """The paces of arms whose curves are drawn: those kept in a file, or measured and kept there.

    Raises:
        RunError: the file is damaged.
    """
    if not measure:
        return _kept(file)
    arms = {arm for claim in claims for arm in claim.arms if "curves" in claim.pictures}
    configs: dict[str, Experiment] = {}
    for run in plan.runs:
        arm, _ = _arm(run)
        if arm in arms:
            configs.setdefault(arm, run.config)
    from ..compilation_cache import enable_compilation_cache
    from .timing import time_steps

    enable_compilation_cache()
    found = _kept(file)
    new = time_steps(configs)
    seconds = {**found.get("seconds", {}), **new["seconds"]}
    where = {"versions": provenance.versions(), "devices": provenance.devices()}
    found = {**new, "seconds": seconds, **where}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    return found


def _kept(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text())
        numbers = [found["cpus"], found["load"], found["rounds"], *found["seconds"].values()]
        if not all(isinstance(value, int | float) for value in numbers):
            raise TypeError("a pace is no number")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file} is damaged ({error!r}); delete it, and `byways claims --time` makes it again"
        ) from error


def keep_experts(plan: Plan, folder: Path) -> None:
    """Draws the experts of LIMoE's first seed, where that run is here and was not drawn yet."""
    target = folder / "experts.svg"
    run = next((run for run in plan.runs if _arm(run) == ("limoe", 0)), None)
    if run is None or target.is_file() or not is_done(plan, run):
        return
    from ..compilation_cache import enable_compilation_cache
    from .experts_figure import draw_experts

    enable_compilation_cache()
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(target, draw_experts(plan.folder_of(run), "What each expert takes"))


def _record(plan: Plan, run: PlannedRun, keys: tuple[str, ...]) -> Record:
    from ..compilation_cache import enable_compilation_cache

    enable_compilation_cache()
    return make_record(plan, run, keys)


def _arm(run: PlannedRun) -> tuple[str, int]:
    return arm_of(run), run.config.seed
