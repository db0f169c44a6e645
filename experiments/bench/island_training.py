"""`byways bench island-training`: whether two islands train twice as fast as one, at what cost."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ... import runtime as rt
from ..config import Experiment
from ..errors import RunError
from ..islands.events import Events
from ..islands.hosts import Islands
from ..islands.step import prepare_islands
from ..presets import preset
from ..train_state import Training
from ..validate import check
from .island_training_settings import BenchIslandTraining, check_island_training
from .moe import circumstances

# ms of the controller a step; share of twice one island's pace.
CONTROL, PACE = 5.0, 0.90


def bench_island_training(settings: BenchIslandTraining) -> dict[str, Any]:
    """Times steps of training on two islands, and on one with half of the batch, in turns.

    Both islands are processes that keep to cores of their own. The one computes B/2 examples a
    step, the two B: with nothing lost their steps take the same time.

    Returns:
        {"rows": [{"islands", "batch", medians over rounds of "step_ms" (as the clock has it),
        "cpu_ms" (of all threads of the controller, a step) and "call_ms" (that a step's call takes
        while others are under way), "messages" (to all islands, a step)}], "pace" (of twice one
        island's, median over rounds), "targets", "settings", "device", "versions", "load"}.

    Raises:
        UsageError: settings that cannot be measured.
        ConfigError: a preset that does not train over two islands.
        RunError: Ray is not installed, or does not start.
    """
    check_island_training(settings)
    config = preset(settings.preset)
    batch = settings.batch_size or config.batch_size
    two = check(dataclasses.replace(config, batch_size=batch, islands=2))
    one = check(dataclasses.replace(config, batch_size=batch // 2, islands=1))
    load = os.getloadavg()[0]
    with _systems(settings.cores) as (alone, both), tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "islands.jsonl"
        ways = [_Way(one, alone, record), _Way(two, both, record)]
        rounds = [[way.time(settings.steps) for way in ways] for _ in range(settings.repeats)]
        rows = [
            {
                "islands": way.config.islands,
                "batch": way.config.batch_size,
                **{name: statistics.median(r[n][name] for r in rounds) for name in rounds[0][n]},
                "messages": way.messages(),
            }
            for n, way in enumerate(ways)
        ]
    pace = statistics.median(r[0]["step_ms"] / r[1]["step_ms"] for r in rounds)
    return {
        "rows": rows,
        "pace": pace,
        "targets": targets(rows[1]["cpu_ms"], pace),
        **circumstances(settings),
        "load": load,
    }


def targets(cpu_ms: float, pace: float) -> list[dict[str, Any]]:
    """What was wanted beside what was measured: [{"name", "value", "wanted", "met"}]."""
    control = "controller's CPU on two islands, ms a step"
    return [
        {"name": control, "value": cpu_ms, "wanted": f"≤ {CONTROL:g}", "met": cpu_ms <= CONTROL},
        {
            "name": "pace of two islands over twice one",
            "value": pace,
            "wanted": f"≥ {PACE:.2f}",
            "met": pace >= PACE,
        },
    ]


@contextlib.contextmanager
def _systems(cores: int) -> Iterator[tuple[rt.Runtime, rt.Runtime]]:
    """A runtime on the first of two processes, and one on both."""
    try:
        hosts = rt.RayIslands(2, cores=cores)
    except rt.RayMissing as error:
        raise RunError(str(error)) from error
    first = dict(list(hosts.devices.items())[:1])
    with hosts, rt.RayRuntime(first, hosts=hosts) as alone, rt.RayRuntime(hosts=hosts) as both:
        yield alone, both


class _Way:
    """One config on its islands, after it has compiled."""

    def __init__(self, config: Experiment, system: rt.Runtime, record: Path):
        self.config, self.system = config, system
        self.training = prepare_islands(config, Islands(system, Events(record, lambda _: None)))
        self.batch = random_batch(self.training, config.batch_size)
        self.training.enter(self.training.start())
        self.time(3)

    def step(self) -> Any:
        return self.training.step({}, self.training.put(self.batch))[1]

    def time(self, steps: int) -> dict[str, float]:
        """Milliseconds a step; of the trainer's loop, which looks at each loss a step late."""
        pending, call = np.asarray(self.step()), 0.0
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(steps):
            called = time.perf_counter()
            loss = self.step()
            call += time.perf_counter() - called
            np.asarray(pending)
            pending = loss
        np.asarray(pending)
        seconds, spent = time.perf_counter() - began, time.process_time() - cpu
        found = {"step_ms": seconds, "cpu_ms": spent, "call_ms": call}
        return {name: 1e3 * value / steps for name, value in found.items()}

    def messages(self) -> int:
        """To all islands, for one step."""
        boxes: list[Any] = [i.devices[0].outbox for i in self.system.islands.values()]
        np.asarray(self.step())
        before = sum(box.messages for box in boxes)
        loss = self.step()
        after = sum(box.messages for box in boxes)
        np.asarray(loss)
        return after - before


def random_batch(training: Training, size: int) -> dict[str, np.ndarray]:
    """Rows without sense, of the shapes that the task takes; all is real, nothing padding."""
    rng, found = np.random.default_rng(0), {}
    for name, like in jax.eval_shape(lambda: training.task.blank(size)).items():
        if name in ("text_mask", "segments"):
            found[name] = np.ones(like.shape, like.dtype)
        else:
            # Pieces, bytes, labels and pixels: all models have as many.
            found[name] = rng.integers(1, 10, like.shape).astype(like.dtype)
    return found
