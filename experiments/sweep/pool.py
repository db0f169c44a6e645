"""A plan's runs, as many at a time as there is room for, until nothing is left to do."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ..errors import Interrupted, RunError
from ..interrupts import Interrupts
from ..lock import FolderLock
from .checks import check_folders, check_plan, picked
from .executor import Ended, Executor
from .local import LocalPool
from .places import places
from .plan import Plan, PlannedRun
from .plan_file import write_plan
from .status import (
    RunStatus,
    State,
    failure_file,
    failure_reason,
    has_failed,
    is_done,
    is_trained,
    output_file,
    state_of,
    status_of,
    write_failure,
)

_POLL = 0.2
# Signals that stop a process from outside: its run goes on next time.
_STOPPED = frozenset(
    -number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP)
) | {130}


@dataclasses.dataclass(frozen=True)
class PoolSettings:
    """How a plan is run.

    Attributes:
        workers: processes at a time; 0 is one for each GPU, or as many as the cores allow.
        cores_each: cores of each; 0 is one (with GPUs an even share).
        evaluate: score each run that is trained.
        retry_failed: try those again that failed.
        only: names of the runs to do, with those that they begin with; empty is all.
        every: seconds between two calls of `on_change`.
    """

    workers: int = 0
    cores_each: int = 0
    evaluate: bool = True
    retry_failed: bool = False
    only: tuple[str, ...] = ()
    every: float = 1.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        name: of the run.
        state: `done` (or `trained`, where no scores were wanted), `failed`, `interrupted` where
            its process was stopped from outside, or `waiting` where what it begins with failed.
        reason: why it is not done; empty where it is.
    """

    name: str
    state: State
    reason: str = ""


def run_plan(
    plan: Plan,
    settings: PoolSettings = PoolSettings(),
    on_change: Callable[[list[RunStatus]], None] | None = None,
    executor: Executor | None = None,
) -> list[Outcome]:
    """Trains and scores what is left of a plan; what is done is left alone.

    A run that fails keeps its traceback in `failures/`, and the others go on. Killed at
    any moment, the same call goes on where it stood.

    Args:
        plan: the runs.
        settings: how.
        on_change: gets the rows of all chosen runs, about every second and at the end.
        executor: where; None is this machine's cores or GPUs, by `settings`.

    Raises:
        UsageError, ConfigError: a run cannot be, or `only` names none.
        RunError: a run's folder holds another config; another sweep works in the folder; the
            folder cannot be written, or the disk is full.
        Interrupted: Ctrl-C; all processes have saved and ended.
    """
    runs = picked(plan, settings.only)
    check_plan(plan)
    check_folders(plan)
    executor = executor or LocalPool(places(settings.workers, settings.cores_each))
    try:
        return _run(plan, runs, settings, on_change, executor)
    except OSError as error:
        raise RunError(
            f"the folder of the runs, {plan.folder}, cannot be written "
            f"({error.strerror or error}); make room there and the same command goes on, or name "
            "another folder"
        ) from error


def _run(
    plan: Plan,
    runs: Sequence[PlannedRun],
    settings: PoolSettings,
    on_change: Callable[[list[RunStatus]], None] | None,
    executor: Executor,
) -> list[Outcome]:
    plan.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        if not settings.only:
            # Processes of another executor do some runs each, at the same time.
            held.enter_context(sweep_lock(plan))
        write_plan(plan)
        interrupts = held.enter_context(Interrupts())
        schedule = _Schedule(plan, runs, settings, executor)
        try:
            schedule.run(interrupts, on_change)
        except KeyboardInterrupt:  # asked twice
            executor.stop(now=True)
            raise
        except BaseException:
            executor.stop()
            raise
    if interrupts.requested:
        left = [one.name for one in schedule.outcomes() if one.state not in schedule.complete]
        raise Interrupted(
            f"stopped by {interrupts.requested}; {len(left)} of {len(runs)} runs are left and go "
            "on with the same command"
        )
    return schedule.outcomes()


class _Schedule:
    """Which runs are left, which run, and how the others ended."""

    def __init__(
        self, plan: Plan, runs: Sequence[PlannedRun], settings: PoolSettings, executor: Executor
    ):
        self.plan, self.runs, self.settings, self.executor = plan, runs, settings, executor
        self.complete: tuple[State, ...] = ("done",) if settings.evaluate else ("done", "trained")
        self.left: list[PlannedRun] = []
        self.active: dict[str, PlannedRun] = {}
        self.ended: dict[str, Outcome] = {}
        self.final: dict[str, RunStatus] = {}
        for run in runs:
            if self._complete(run):
                self.ended[run.name] = Outcome(
                    run.name, "done" if is_done(plan, run) else "trained"
                )
            elif has_failed(plan, run) and not settings.retry_failed:
                self.ended[run.name] = Outcome(run.name, "failed", failure_reason(plan, run))
            else:
                self.left.append(run)

    def run(
        self, interrupts: Interrupts, on_change: Callable[[list[RunStatus]], None] | None
    ) -> None:
        shown = 0.0
        while self.left or self.active:
            if interrupts.requested:
                self.left.clear()
                self.executor.stop()
            else:
                self._start()
            news = self.executor.poll()
            for ended in news:
                self._end(ended)
            now = time.monotonic()
            if on_change is not None and now - shown >= self.settings.every:
                on_change(self.rows())
                shown = now
            if not news and (self.left or self.active):
                time.sleep(_POLL)
        if on_change is not None:
            on_change(self.rows())

    def rows(self) -> list[RunStatus]:
        # What ended is read once: a long table must not take time from those that train.
        rows = []
        for run in self.runs:
            row = self.final.get(run.name) or status_of(self.plan, run)
            if run.name in self.ended:
                self.final[run.name] = row
            rows.append(row)
        return rows

    def outcomes(self) -> list[Outcome]:
        return [
            self.ended.get(run.name) or Outcome(run.name, state_of(self.plan, run), "not done yet")
            for run in self.runs
        ]

    def _start(self) -> None:
        """Starts what can be, and gives up what never will be."""
        for run in list(self.left):
            base = run.begins_with and self.plan.run(run.begins_with)
            if base and not is_trained(self.plan, base):
                lost = self.ended.get(base.name)
                if lost is not None:
                    why = f"it begins with {base.name}, which is {lost.state}"
                    self.ended[run.name] = Outcome(run.name, "waiting", why)
                    self.left.remove(run)
                continue
            if self.executor.free() < 1:
                break
            self.left.remove(run)
            failure_file(self.plan, run).unlink(missing_ok=True)
            self.active[run.name] = run
            self.executor.submit(self.plan, run, self.settings.evaluate)

    def _end(self, ended: Ended) -> None:
        run = self.active.pop(ended.name)
        if self._complete(run):
            state: State = "done" if is_done(self.plan, run) else "trained"
            self.ended[run.name] = Outcome(run.name, state)
        elif ended.code in _STOPPED:
            why = "saved and stopped" if ended.code == 130 else signal.Signals(-ended.code).name
            self.ended[run.name] = Outcome(
                run.name, "interrupted", f"stopped ({why}); the same command goes on with it"
            )
        else:
            output = ended.output or f"no output in {output_file(self.plan, run)}"
            try:
                reason = write_failure(self.plan, run, ended.code, output)
            except OSError as error:  # a full disk, which may be why it failed
                lines = [line.strip() for line in output.splitlines() if line.strip()]
                last = lines[-1] if lines else f"exit code {ended.code}"
                reason = f"{last} (its file cannot be written: {error.strerror or error})"
            self.ended[run.name] = Outcome(run.name, "failed", reason)

    def _complete(self, run: PlannedRun) -> bool:
        if is_done(self.plan, run):
            return True
        return not self.settings.evaluate and is_trained(self.plan, run)


def sweep_lock(plan: Plan) -> FolderLock:
    """Holds a plan's folder, so that nobody else begins with its runs.

    Raises:
        RunError: another process has it; its process id is named.
    """
    try:
        return FolderLock(plan.folder)
    except RunError as error:
        owner = (plan.folder / ".lock").read_text().strip() or "unknown"
        raise RunError(
            f"the sweep {plan.folder} is being run by process {owner}; wait for it or stop it "
            "(Ctrl-C lets its runs save first)"
        ) from error
