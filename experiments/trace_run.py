"""One training step and one batch of inference of a trained run, recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..models import Palm, Vmoe, lower
from ..routing import RoutingSums
from ..runtime import (
    Runtime,
    Span,
    TraceSummary,
    computation,
    recording,
    summarise,
    write_trace,
)
from .classification import scaled
from .config import ClassificationConfig, ContrastiveConfig, Experiment
from .contrastive import pair_model
from .errors import RunError, UsageError
from .execution import by_pathways
from .library import Trained, read_run
from .run_folder import RunFolder
from .tasks import task_of
from .train_data import open_training_data
from .validate_model import towers

Results = tuple[Any, dict[str, RoutingSums]]
# Calls before the one that is recorded: the first compiles, the second finds its buffers.
_WARM = 2


@dataclasses.dataclass(frozen=True)
class PassTrace:
    """What was recorded of one pass.

    Attributes:
        name: `train` or `inference`.
        file: the trace.
        spans: of the recording.
        summary: of the spans.
        awake: of each sparse block, the numbers (E,) of tokens that each expert took.
    """

    name: str
    file: Path
    spans: list[Span]
    summary: TraceSummary
    awake: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class RunTrace:
    """The traces of a run.

    Attributes:
        step: optimiser steps that made the parameters.
        batch: examples.
        devices: how many.
        whole: why a pass is a single node; "" where experts are nodes of their own.
        passes: training, then inference.
    """

    step: int
    batch: int
    devices: int
    whole: str
    passes: tuple[PassTrace, ...]


def trace_run(
    run: str | Path, out: str | Path, *, batch: int | None = None, devices: int | None = None
) -> RunTrace:
    """Records a training step (loss and gradients, no update) and what the model answers.

    Both are of the batch that the run's data begins with. The model is cut at its experts,
    dropless; one without experts that can sleep is one node. Programs are compiled, and have run,
    before the recording begins.

    Args:
        run: the run folder.
        out: the folder of the traces, `train.json` and `inference.json`.
        batch: examples; None is the run's batch size.
        devices: so many of the first local devices, experts spread over them; None is all.

    Raises:
        UsageError: fewer devices are there.
        RunError, ConfigError: no such run, its data is missing, its model cannot be cut, or `out`
            cannot be written.
        CheckpointError: no checkpoint, or none that is whole.
    """
    read = read_run(run)
    config = _as_traced(read.config, batch)
    there = jax.local_devices()[:devices]
    if devices is not None and len(there) < devices:
        raise UsageError(f"--devices {devices}: this process has {len(there)}; ask for no more")
    rows = _batch(config, RunFolder(run))
    whole = why_whole(read.config.model)
    make = _one_node if whole else _by_pathways
    with Runtime({"local": there}) as system:
        passes = tuple(
            _recorded(system, name, call, Path(out))
            for name, call in make(system, config, read, rows)
        )
    try:
        for one in passes:
            write_trace(one.spans, one.file)
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error}); name another with --out") from error
    return RunTrace(read.step, config.batch_size, len(there), whole, passes)


def why_whole(model: Any) -> str:
    """Why a model has no experts that can sleep; "" if it has."""
    sparse = [tower.moe for tower in towers(model).values() if tower.moe.placement != "none"]
    if not sparse:
        return "the model is dense"
    always = sorted({moe.router for moe in sparse} & {"soft", "expert_choice"})
    if always:
        return f"under the router {always[0]!r} every expert works on every batch"
    return ""


Pass = tuple[str, Callable[[], Results]]


def _by_pathways(system: Runtime, config: Experiment, read: Trained, rows: Any) -> list[Pass]:
    train, inference = _functions(config)
    step = jnp.asarray(read.step, jnp.int32)
    devices = system.islands["local"].devices
    slices = [system.virtual_devices().add_slice(1) for _ in devices]
    try:
        forward = lower(inference, read.params, rows, slices=slices)
        backward = lower(train, read.params, rows, step, slices=slices)
    except ValueError as error:
        raise RunError(f"{read.folder} cannot be cut at its experts: {error}") from error
    gradient = backward.value_and_grad(0)
    params, _ = forward.split(*jax.device_put((read.params, rows), devices[0]))
    return [
        ("train", lambda: jax.block_until_ready(gradient(params, rows, step))[0]),
        ("inference", lambda: jax.block_until_ready(forward(params, rows))),
    ]


def _one_node(system: Runtime, config: Experiment, read: Trained, rows: Any) -> list[Pass]:
    train, inference = _functions(config)
    part = system.virtual_devices().add_slice(1)
    step = jnp.asarray(read.step, jnp.int32)
    gradient = computation(jax.value_and_grad(train, has_aux=True), part, name="train")
    forward = computation(inference, part, name="inference")
    params, rows = jax.device_put((read.params, rows), part.devices[0])
    return [
        ("train", lambda: jax.block_until_ready(gradient(params, rows, step))[0]),
        ("inference", lambda: jax.block_until_ready(forward(params, rows))),
    ]


def _functions(config: Experiment) -> tuple[Callable[..., Results], Callable[..., Results]]:
    """The objective at a step of training, and what the model answers without noise.

    Both give the routing sums of each sparse block second.
    """
    task = task_of(config)

    def train(params: Any, batch: Any, step: Any) -> Results:
        key = jax.random.fold_in(jax.random.key(config.seed), step)
        loss, (_, sums) = task.objective(params, batch, key)
        return loss, sums

    def inference(params: Any, batch: Any) -> Results:
        tree = {"params": params}
        if isinstance(config, ContrastiveConfig):
            model = pair_model(config.model)
            out = model.apply(tree, batch["image"], batch["text"], batch["text_mask"])
            answer = out.image, out.text  # pyright: ignore[reportAttributeAccessIssue]
        elif isinstance(config, ClassificationConfig):
            out = Vmoe(config.model).apply(tree, scaled(batch["image"]))
            answer = out.logits  # pyright: ignore[reportAttributeAccessIssue]
        else:
            out = Palm(config.model).apply(tree, batch["tokens"], batch["segments"])
            answer = out.logits  # pyright: ignore[reportAttributeAccessIssue]
        return answer, out.routing  # pyright: ignore[reportAttributeAccessIssue]

    return train, inference


def _recorded(system: Runtime, name: str, call: Callable[[], Results], out: Path) -> PassTrace:
    for _ in range(_WARM):
        call()
    with recording(system) as recorder:
        _, sums = call()
    devices = [(island.name, d.id) for island in system.islands.values() for d in island.devices]
    summary = summarise(recorder.spans, devices)
    awake = {layer: np.asarray(s.kept).sum(axis=0) for layer, s in sums.items()}
    return PassTrace(name, out / f"{name}.json", recorder.spans, summary, awake)


def _as_traced(config: Experiment, batch: int | None) -> Experiment:
    """The experiment with a model that can be cut, dropless, in one chunk."""
    model = config.model
    if not why_whole(model):
        model = by_pathways(model)
        for key in towers(model):
            tower = towers(model)[key]
            moe = dataclasses.replace(tower.moe, capacity_factor=None, eval_capacity_factor=None)
            name = key.removeprefix("model").removeprefix(".")
            changes = {name: dataclasses.replace(tower, moe=moe)} if name else {"moe": moe}
            model = dataclasses.replace(model, **changes)
    loss = dataclasses.replace(config.loss, chunks=1)
    size = batch or config.batch_size
    return dataclasses.replace(config, model=model, loss=loss, batch_size=size)


def _batch(config: Experiment, run: RunFolder) -> dict[str, jax.Array]:
    if run.tokenizer_file.is_file() and hasattr(config.data, "tokenizer"):
        data = dataclasses.replace(config.data, tokenizer=str(run.tokenizer_file))
        config = dataclasses.replace(config, data=data)
    rows = next(iter(open_training_data(config, run)))
    return {
        name: jnp.asarray(rows[name]) for name in jax.eval_shape(lambda: task_of(config).blank(1))
    }
