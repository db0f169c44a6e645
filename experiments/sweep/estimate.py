"""What a plan would cost, before any of it is run: parameters, FLOPs, minutes."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import Experiment, OptimizerConfig, kind_of
from ..config_files import to_dict
from ..errors import RunError
from ..files import canonical_json
from ..huge_pages import child_environment
from ..parameter_counts import count_parameters
from .places import Place
from .plan import Plan, PlannedRun
from .status import State, state_of
from .worker import CORES

STEPS = 5


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run would cost.

    Attributes:
        run: its name.
        state: as it is now; what is trained costs no minutes.
        parameters, awake: of the model in all, and those that work on one token.
        flops: of training, as the model needs them; None where it was not asked for.
        seconds: of training, from the start of its process; None where it was not measured.
    """

    run: str
    state: State
    parameters: int
    awake: int
    flops: float | None = None
    seconds: float | None = None


def estimate(
    plan: Plan, runs: Sequence[PlannedRun], place: Place, steps: int = STEPS
) -> list[Cost]:
    """The cost of each run, a few real steps of each distinct shape measured one after another.

    Args:
        plan: of the runs.
        runs: those that are chosen.
        place: where the steps run, as a worker would.
        steps: to time of each shape; 0 measures no seconds and needs no compilation.

    Raises:
        RunError: a process that measures failed; its output is told.
    """
    shapes = {shape(run.config): run.config for run in runs}
    groups = [[key] for key in shapes] if steps else [list(shapes)]
    found: dict[bytes, dict[str, Any]] = {}
    for group in groups:
        costs = _measured([shapes[key] for key in group], place, steps)
        found |= dict(zip(group, costs, strict=True))
    return [_cost(plan, run, found[shape(run.config)]) for run in runs]


def shape(config: Experiment) -> bytes:
    """The same for runs whose steps cost the same: seed, steps and rates do not count."""
    kept = OptimizerConfig(name=config.optimizer.name, ns_steps=config.optimizer.ns_steps)
    return canonical_json(
        [kind_of(config), to_dict(dataclasses.replace(
            config, optimizer=kept, seed=0, steps=1, log_every=1, eval_every=0, init=(),
            checkpoint=type(config.checkpoint)()))]
    )  # fmt: skip


def finish(plan: Plan, costs: Sequence[Cost], workers: int) -> float | None:
    """Seconds until the last of the runs is trained; None where one was not measured.

    Each worker takes the next run that may begin; scoring is not counted.
    """
    if any(cost.seconds is None for cost in costs):
        return None
    free = [0.0] * max(1, workers)
    ended: dict[str | None, float] = {None: 0.0}
    left = {cost.run: cost.seconds or 0.0 for cost in costs}
    bases = {name: plan.run(name).begins_with for name in left}
    while left:
        worker = min(range(len(free)), key=free.__getitem__)
        ready = [name for name in left if bases[name] in ended or bases[name] not in left]
        begins = {name: max(free[worker], ended.get(bases[name], 0.0)) for name in ready}
        name = min(ready, key=begins.__getitem__)
        free[worker] = ended[name] = begins[name] + left.pop(name)
    return max(free)


def _cost(plan: Plan, run: PlannedRun, found: dict[str, Any]) -> Cost:
    state, config = state_of(plan, run), run.config
    seconds = None
    if found["step"] is not None:
        seconds = found["first"] + (config.steps - 1) * found["step"]
        if state in ("trained", "done"):
            seconds = 0.0
    total, awake = count_parameters(config.model)
    return Cost(run.name, state, total, awake, found["flops"] * config.steps, seconds)


def _measured(configs: list[Experiment], place: Place, steps: int) -> list[dict[str, Any]]:
    plain = [dataclasses.replace(config, init=()) for config in configs]
    data = [{"kind": kind_of(config), "config": to_dict(config)} for config in plain]
    environment = {
        **child_environment(),
        "PYTHONSAFEPATH": "1",
        CORES: ",".join(map(str, place.cores)),
        **place.environment,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "configs.json"
        file.write_text(json.dumps(data))
        done = subprocess.run(
            [sys.executable, "-m", "byways.experiments.sweep.measure", str(file), str(steps)],
            env={**environment, "TMPDIR": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        end = os.linesep.join(done.stderr.splitlines()[-12:])
        raise RunError(f"a step could not be measured (exit code {done.returncode}):\n{end}")
    return json.loads(done.stdout.splitlines()[-1])
