"""Small plans, and an executor that trains nothing."""

from __future__ import annotations

import json
from pathlib import Path

from byways.experiments import RunFolder, preset
from byways.experiments.files import write_json
from byways.experiments.sweep.executor import Ended
from byways.experiments.sweep.plan import Plan, PlannedRun
from byways.experiments.sweep.status import is_trained, mark_done
from byways.experiments.sweep.values import with_values


def planned(name, seed=0, begins_with=None, **values):
    config = with_values(preset("limoe_tiny"), {"seed": seed, "steps": 40, **values})
    return PlannedRun(name, config, "limoe_tiny", begins_with)


def plan_in(folder: Path, *runs: PlannedRun) -> Plan:
    return Plan("some", folder / "some", runs or tuple(planned(f"s{n}", n) for n in range(3)))


def train(plan: Plan, run: PlannedRun, step: int | None = None, evaluate: bool = True) -> None:
    """Leaves what the worker leaves of a run that came to `step`, or to its end."""
    if not is_trained(plan, run):
        _train(plan, run, step)
    if step is None and evaluate:
        results = RunFolder(plan.folder_of(run)).results_file
        write_json(results, {"noto": {"all": {"top1": 0.25}}})
        mark_done(plan, run, 9.0, 1.0)


def _train(plan: Plan, run: PlannedRun, step: int | None) -> None:
    steps = run.config.steps
    line = {
        "step": step or steps,
        "kind": "train",
        "metrics": {"loss": 1.5},
        "times": {"examples_per_second": 64.0, "since_start": 9.0},
    }
    with RunFolder(plan.folder_of(run)).start(plan.config_of(run), run.preset) as folder:
        folder.metrics_file.write_text(json.dumps(line) + "\n")
        if step is None:
            folder.mark_finished(steps)


class FakeExecutor:
    """Ends each run at the next poll, with the code and output that is planned for it."""

    def __init__(self, room=2, codes=None):
        self.room, self.codes = room, codes or {}
        self.active: list = []
        self.started: list[str] = []
        self.most = 0

    def free(self) -> int:
        return self.room - len(self.active)

    def submit(self, plan, run, evaluate: bool) -> None:
        self.started.append(run.name)
        self.active.append((plan, run, evaluate))
        self.most = max(self.most, len(self.active))

    def poll(self) -> list[Ended]:
        ended = []
        for plan, run, evaluate in self.active:
            code = self.codes.get(run.name, 0)
            if not code:
                train(plan, run, evaluate=evaluate)
            ended.append(Ended(run.name, code, "Traceback\n  line 1\nValueError: no luck\n"))
        self.active.clear()
        return ended

    def stop(self, now: bool = False) -> None:
        pass
