"""The trainer: one function from top to bottom."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .checkpoints import Checkpoints
from .compilation_cache import enable_compilation_cache
from .config import Experiment
from .config_files import fingerprint
from .errors import AllIslandsLost, Interrupted, RunError
from .flop_meter import FlopMeter
from .initial_weights import begin_with
from .interrupts import Interrupts
from .metrics_log import MetricsLog
from .prepare import prepare
from .progress import TrainingProgress
from .run_folder import RunFolder
from .train_data import open_training_data
from .train_state import State, Training
from .validate import check
from .validation import Validation, validation_of

if TYPE_CHECKING:
    from .islands.hosts import Islands


def train(
    config: Experiment, folder: Path | str, preset: str = "", cluster: str | None = None
) -> Path:
    """Trains from the start, or from the newest whole checkpoint of `folder`.

    A run that was killed goes on where its last checkpoint stands, and ends with the same
    parameters, bit for bit, as one that was not (same devices, same versions). So does one over
    islands, whichever of them are lost meanwhile.

    Args:
        config: all that the run depends on.
        folder: the run folder.
        preset: the preset's name, for the record.
        cluster: where `config.islands` are: as `open_islands` takes it.

    Returns:
        the run folder.

    Raises:
        ConfigError: the config's parts do not fit together.
        RunError: the folder is another run's, finished, or in use; the loss or a parameter is not
            finite; islands cannot be had, or are lost again and again.
        CheckpointError: nothing whole to resume from, or a checkpoint could not be saved.
        WeightsError: a folder of `config.init` is damaged, or is another model's.
        Interrupted: Ctrl-C; the run was saved first.
    """
    began = time.perf_counter()
    check(config)
    enable_compilation_cache()
    with RunFolder(folder).start(config, preset) as run, Interrupts() as interrupts:
        with _islands(config, run, cluster) as islands:
            training = prepare(config, islands)
            while True:
                try:
                    _train(config, run, training, islands, interrupts, began)
                    break
                except AllIslandsLost:
                    assert islands is not None
                    islands.wait_for_one()
        run.mark_finished(config.steps)
        return run.path


def _islands(
    config: Experiment, run: RunFolder, cluster: str | None
) -> contextlib.AbstractContextManager[Islands | None]:
    if config.islands is None:
        return contextlib.nullcontext()
    from .islands.hosts import open_islands

    return open_islands(config.islands, cluster, run.islands_file)


def _train(
    config: Experiment,
    run: RunFolder,
    training: Training,
    islands: Islands | None,
    interrupts: Interrupts,
    began: float,
) -> None:
    """From the newest checkpoint to the end."""
    data = open_training_data(config, run)
    checkpoints = Checkpoints(run.checkpoints, config.checkpoint, fingerprint(config))
    state = training.start()
    restored = checkpoints.latest(state)
    first, news = 0, []
    if restored is not None:
        first, state = restored.step, restored.state
        data.set_state(restored.extra["data"])
    elif config.init:
        state["params"], news = begin_with(config, state["params"])
    state = training.enter(state)
    log = MetricsLog(run.metrics_file, first, run.tensorboard)
    run.record_start(config.seed, first if restored else None)
    validation = validation_of(config, run)
    try:
        with TrainingProgress(config.steps, first) as progress:
            if islands is not None:
                islands.events.tell = progress.print
            if restored is not None:
                for reason in restored.rejected:
                    progress.print(f"checkpoint passed over: {reason}")
                progress.print(f"going on from the checkpoint of step {first}")
            for line in news:
                progress.print(line)
            loop = _Loop(
                config, training, checkpoints, log, progress, validation, interrupts, began
            )
            loop.run(state, data, first)
    finally:
        try:
            log.close()
        finally:
            checkpoints.close()


class _Loop:
    """The steps of one process of a run."""

    def __init__(
        self,
        config: Experiment,
        training: Training,
        checkpoints: Checkpoints,
        log: MetricsLog,
        progress: TrainingProgress,
        validation: Validation,
        interrupts: Interrupts,
        began: float,
    ):
        self.config, self.training, self.checkpoints = config, training, checkpoints
        self.log, self.progress, self.validation = log, progress, validation
        self.interrupts = interrupts
        self.began = began
        # Losses that were enqueued and not yet looked at, with the rows they came from.
        self.pending: deque[tuple[int, np.ndarray, Any]] = deque()
        self.meter = FlopMeter(training.task.flops, config.devices)

    def run(self, state: State, data: Any, first: int) -> None:
        config, batches = self.config, iter(data)
        last_line, since, waited = first - first % config.log_every, time.perf_counter(), 0.0
        for step in range(first + 1, config.steps + 1):
            score = None
            asked = time.perf_counter()
            batch = _next(batches, step)
            waited += time.perf_counter() - asked
            state, loss = self.training.step(state, self.training.put(batch))
            self.pending.append((step, batch["id"], loss))
            self.meter.add(batch)
            # One step stays in flight, so that the device never waits for this check.
            self.check_losses(leave=1)
            if step % config.log_every == 0 or step == config.steps:
                self.check_losses(leave=0)
                now = time.perf_counter()
                read, state = self.training.read(state)
                metrics: dict[str, Any] = {k: float(v) for k, v in jax.device_get(read).items()}
                metrics |= {f"data/{name}": n for name, n in data.counts().items()}
                done = step - max(last_line, first)
                times = {
                    "since_start": now - self.began,
                    "seconds": now - since,
                    "examples_per_second": done * config.batch_size / (now - since),
                    "input_wait": waited / (now - since),
                    **self.meter.read(now - since),
                }
                self.log.write(step, "train", metrics, times)
                self.progress.update(step, metrics, times)
                last_line, since, waited = step, now, 0.0
            elif step == first + 1:
                # Looked at at once: a start that is slow should show.
                self.check_losses(leave=0)
                self.progress.print(f"first step after {time.perf_counter() - self.began:.1f} s")
                self.meter.prepare()
            self.progress.advance(step)
            if step == config.steps or (config.eval_every and step % config.eval_every == 0):
                began = time.perf_counter()
                params = self.training.params(state)
                self.check_params(step, batch["id"], params)
                metrics = self.validation.scores(params)
                del params
                score = metrics.get(self.validation.headline)
                took = time.perf_counter() - began
                self.log.write(step, "validation", metrics, {"seconds": took})
                self.progress.print(f"step {step}  validation  " + _text(metrics))
                since += took
            stop = self.interrupts.requested
            if stop or step == config.steps or step % config.checkpoint.every == 0:
                canonical = self.training.canonical(state)
                self.check_params(step, batch["id"], canonical["params"])
                # A power cut must not leave the checkpoint and take the lines before it.
                self.log.sync()
                self.checkpoints.save(step, canonical, {"data": data.get_state()}, score)
                del canonical
            if stop and step < config.steps:
                self.checkpoints.wait()
                raise Interrupted(
                    f"stopped by {stop} after step {step} of {config.steps}, which is saved; run "
                    "the same command again to go on"
                )
        self.checkpoints.wait()

    def check_losses(self, leave: int) -> None:
        """Looks at all but the newest `leave` losses.

        Raises:
            RunError: one is not finite; names the step, the batch's rows, the last checkpoint.
        """
        while len(self.pending) > leave:
            step, rows, loss = self.pending.popleft()
            value = float(jax.device_get(loss))
            if not math.isfinite(value):
                raise self.diverged(f"the loss is {value} at step {step}", rows)

    def check_params(self, step: int, rows: np.ndarray, params: Any) -> None:
        """Looks at what a step made: its loss is of before, and its gradient may be another.

        Raises:
            RunError: as `check_losses`, or a parameter is not finite.
        """
        self.check_losses(leave=0)
        if not _all_finite(params):
            raise self.diverged(f"the parameters are not all finite after step {step}", rows)

    def diverged(self, what: str, rows: np.ndarray) -> RunError:
        self.checkpoints.wait()
        last = self.checkpoints.last_step()
        good = "none was saved yet"
        if last is not None:
            good = f"step {last} ({self.checkpoints.path(last)})"
        return RunError(
            f"{what}; rows of the batch: {rows.tolist()}; last good checkpoint: {good}. Lower "
            "--optimizer.lr, clip harder with --optimizer.clip, or look at those rows, and train "
            "into a new folder"
        )


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.array([jnp.isfinite(x).all() for x in floats]).all()


def _next(batches: Iterator[dict[str, np.ndarray]], step: int) -> dict[str, np.ndarray]:
    batch = next(batches, None)
    if batch is None:
        raise RunError(f"the training data ended before step {step}; the stream must be endless")
    return batch


def _text(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
