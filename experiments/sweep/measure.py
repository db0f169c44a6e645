"""`python -m byways.experiments.sweep.measure CONFIGS.json STEPS`: what a step of each costs.

A process of its own, since it takes the machine's memory and a worker's place.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config import KINDS, Experiment
from ..config_files import from_dict


def main(arguments: Sequence[str]) -> int:
    """Prints a JSON list: of each config `flops`, `first` and `step` (seconds, or null)."""
    from .worker import CORES, pin_from

    pin_from(CORES)
    found = json.loads(Path(arguments[0]).read_text())
    steps = int(arguments[1])
    configs = [from_dict(one["config"], KINDS[one["kind"]]) for one in found]
    with tempfile.TemporaryDirectory() as folder:
        costs = [step_cost(c, Path(folder) / str(n), steps) for n, c in enumerate(configs)]
    print(json.dumps(costs))
    return 0


def step_cost(config: Experiment, folder: Path, steps: int) -> dict[str, Any]:
    """Trains a few steps and forgets them.

    Args:
        config: of the run; the weights that it begins with are not read.
        folder: a new one, for what the run's data leaves.
        steps: timed after the first, which compiles; 0 times none and compiles nothing.

    Returns:
        `flops`: of a training step, as the model needs them; `first`: seconds of all up to the end
        of the first step; `step`: median seconds of the others. The seconds are None where
        none was timed.
    """
    import jax
    import numpy as np

    from ..prepare import prepare
    from ..run_folder import RunFolder
    from ..tasks import task_of
    from ..train_data import open_training_data

    began = time.perf_counter()
    with RunFolder(folder).start(config, "measured") as run:
        batches = iter(open_training_data(config, run))
        batch = next(batches)
        flops, _ = task_of(config).flops(batch)
        if not steps:
            return {"flops": flops, "first": None, "step": None}
        training = prepare(config)
        state = training.enter(training.start())
        times = []
        for _ in range(steps + 1):
            since = time.perf_counter()
            state, loss = training.step(state, training.put(batch))
            jax.block_until_ready(loss)
            batch = next(batches)
            times.append(time.perf_counter() - since)
        first = time.perf_counter() - began - sum(times[1:])
        return {"flops": flops, "first": first, "step": float(np.median(times[1:]))}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
