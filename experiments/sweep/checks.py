"""What is wrong with a plan, found before any of its runs starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...models.config import sparse_blocks
from ..config import kind_of
from ..config_files import describe_differences, differences, fingerprint
from ..errors import ConfigError, RunError, UsageError
from ..run_folder import RunFolder, strangers_in
from ..suggest import unknown
from ..validate import problems_of
from ..validate_model import towers
from .plan import Plan, PlannedRun
from .plan_file import recorded_hashes


def check_plan(plan: Plan) -> None:
    """Raises:
    ConfigError: a run's config does not hold together; every problem, with its run's name.
    UsageError: there is no run.
    """
    if not plan.runs:
        raise UsageError(f"the sweep {plan.name} has no run")
    problems = [
        f"run {run.name}: {problem}"
        for run in plan.runs
        for problem in [*problems_of(plan.config_of(run)), *_growth(plan, run)]
    ]
    if problems:
        raise ConfigError(problems)


def _growth(plan: Plan, run: PlannedRun) -> Iterator[str]:
    """Why an upcycled run cannot grow out of its base, as far as configs tell."""
    if not run.upcycled or run.begins_with is None:
        return
    base = plan.run(run.begins_with)
    if type(base.config) is not type(run.config):
        kinds = " and ".join(kind_of(config) for config in (base.config, run.config))
        yield f"it is upcycled from '{base.name}', but the two are of different kinds: {kinds}"
        return
    if any(_sparse(model) for model in towers(base.config.model).values()):
        yield f"it is upcycled from '{base.name}', which is sparse already; name a dense run"
    grown = [model for model in towers(run.config.model).values() if _sparse(model)]
    if not grown:
        yield "it is upcycled, but its own model has no sparse block; set model.moe.placement"
    for model in grown:
        moe = model.moe
        if moe.router in ("soft", "hash", "random") or moe.task != "none":
            yield (
                f"it is upcycled, which wants a learned router without a task; model.moe.router is "
                f"{moe.router} and model.moe.task is {moe.task}"
            )
        if moe.shared_experts or moe.granularity > 1 or moe.kept_experts:
            yield (
                "it is upcycled, which copies MLPs to whole experts: set model.moe.shared_experts "
                "to 0, granularity to 1, kept_experts to []"
            )


def _sparse(model: Any) -> bool:
    return bool(sparse_blocks(model.moe, model.depth))


def check_folders(plan: Plan) -> None:
    """Raises:
    RunError: a run's folder is there and holds another run; the keys that differ are named.
    """
    before = recorded_hashes(plan.folder)
    for run in plan.runs:
        folder = RunFolder(plan.folder_of(run))
        if not folder.config_file.is_file():
            _check_empty(run, folder.path)
            continue
        try:
            old, new = fingerprint(folder.read()[0]), fingerprint(plan.config_of(run))
        except (RunError, ConfigError) as error:
            raise RunError(
                f"run '{run.name}' cannot go on: {error}\nOr move {folder.path} away: then it is "
                "made again"
            ) from error
        if run.begins_with is not None:
            # The sweep's folder may have been moved.
            del old["init"], new["init"]
        changes = differences(old, new)
        if changes:
            raise RunError(
                f"run '{run.name}' is in {folder.path} already, with another config "
                f"({describe_differences(changes)}); give the old values, name the sweep or the "
                "run otherwise, or move that folder away"
            )
        if run.begins_with is None:
            continue
        if before.get(run.name, plan.hash_of(run.name)) != plan.hash_of(run.name):
            raise RunError(
                f"run '{run.name}' in {folder.path} began with other weights than those of "
                f"'{run.begins_with}' as it is now; move that folder away, or name the run "
                "otherwise"
            )


def _check_empty(run: PlannedRun, path: Path) -> None:
    if not path.exists():
        return
    strangers = [] if path.is_file() else strangers_in(path)
    if path.is_file() or strangers:
        what = f"holds {', '.join(strangers[:3])} but no config.json" if strangers else "is a file"
        raise RunError(
            f"run '{run.name}' would be in {path}, which is no run folder (it {what}); move it "
            "away, or name the run or the sweep otherwise"
        )


def picked(plan: Plan, only: Sequence[str]) -> tuple[PlannedRun, ...]:
    """The runs of these names, and those that they begin with, in the plan's order; all for none.

    Raises:
        UsageError: no run is called so.
    """
    if not only:
        return plan.runs
    names = [run.name for run in plan.runs]
    wanted: set[str] = set()
    for name in only:
        if name not in names:
            raise UsageError(unknown(f"run of {plan.name}", name, names))
        while name is not None:
            wanted.add(name)
            name = plan.run(name).begins_with
    return tuple(run for run in plan.runs if run.name in wanted)
