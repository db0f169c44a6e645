"""A whole trained model: a training step and inference by pathways beside the fused programs."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...models import lower
from ..config import ContrastiveConfig
from ..errors import UsageError
from ..execution import by_pathways, check_forward
from ..library import image_embedding, load, text_embedding
from ..prepare import prepare
from ..run_folder import RunFolder
from ..tasks import task_of
from ..train_data import open_training_data
from ..train_state import Training
from ..validation import validation_of
from .moe import circumstances
from .rounds import Rounds, time_rounds
from .whole_settings import BenchWhole

MODES = ("fused", "pathways", "sparse")


def bench_whole(folder: Path | str, settings: BenchWhole) -> dict[str, Any]:
    """Times a contrastive run's model from its newest checkpoint, on its own training stream.

    `fused` is one `jit` of the dropless step; `pathways` gives the same in the exact mode of
    the optimiser; `sparse` updates awake experts alone. All three take the same batches.

    Args:
        folder: of the run.
        settings: sizes.

    Returns:
        {"train": {mode: {"ms", "over_fused", "quartiles"}}, "inference": [{"input", "batch",
        "fused_ms", "pathways_ms", "ratio", "quartiles", "awake"}], "awake": of each sparse layer
        in the last training step, "experts": E, "scores": by mode after `score_steps`, "run", …}.

    Raises:
        UsageError: not a contrastive run with experts that can be left out.
        RunError: no trained run there.
    """
    run = load(folder)
    if not isinstance(run.config, ContrastiveConfig):
        raise UsageError(f"{folder} is no run of images and texts: this benchmark embeds both")
    check_forward(run.config.model)
    load_average = os.getloadavg()[0]
    awake, rounds = _train(run, settings)
    result: dict[str, Any] = {
        "run": Path(folder).name,
        "step": run.step,
        "train": {mode: _row(rounds, mode) for mode in MODES},
        "awake": awake,
        "experts": run.config.model.moe.num_experts,
        "inference": _inference(run, settings),
    }
    if settings.score_steps:
        result["scores"] = {mode: _score(run, mode, settings) for mode in MODES}
    return {**result, **circumstances(settings), "load": load_average}


def _row(rounds: Rounds, mode: str) -> dict[str, Any]:
    return {
        "ms": 1e3 * rounds.median(mode),
        "over_fused": rounds.ratio(mode, "fused"),
        "quartiles": rounds.quartiles(mode, "fused"),
    }


def _config(run: Any, mode: str, settings: BenchWhole) -> Any:
    """The run's config for one mode, dropless and on the given devices."""
    config = run.config
    model = by_pathways(config.model)
    model = dataclasses.replace(
        model, moe=dataclasses.replace(model.moe, capacity_factor=None, eval_capacity_factor=None)
    )
    if mode == "fused":
        # The best dropless program there is in one jit (docs/benchmarks/moe.md).
        model = dataclasses.replace(model, moe=dataclasses.replace(model.moe, dispatcher="blocked"))
    return dataclasses.replace(
        config,
        model=model,
        execution="fused" if mode == "fused" else "pathways",
        expert_updates="sparse" if mode == "sparse" else "exact",
        batch_size=settings.batch or config.batch_size,
        devices=1 if mode == "fused" else settings.devices,
        init=(),
    )


def _started(training: Training, run: Any) -> Any:
    """A state with the trained parameters and fresh moments, in the middle of the schedule."""
    state = training.start()
    state["params"] = jax.device_put(run.params, training.home)
    state["step"] = jax.device_put(jnp.asarray(run.config.steps // 2, jnp.int32), training.home)
    return training.enter(state)


def _train(run: Any, settings: BenchWhole) -> tuple[list[int], Rounds]:
    batches = _batches(run, settings)
    some = [next(batches) for _ in range(4)]
    roads = {}
    for mode in MODES:
        training = prepare(_config(run, mode, settings))
        roads[mode] = _steps(training, _started(training, run), some, settings.steps)
    rounds = time_rounds(roads, settings.repeats)
    rounds = Rounds({m: [s / settings.steps for s in own] for m, own in rounds.seconds.items()})
    return _awake(run, some[0], settings), rounds


def _steps(training: Training, state: Any, batches: list[Any], count: int) -> Callable[[], Any]:
    held, ready = [state], itertools.cycle([training.put(batch) for batch in batches])

    def road() -> Any:
        loss = None
        for _ in range(count):
            held[0], loss = training.step(held[0], next(ready))
        return jax.block_until_ready((held[0], loss))

    return road


def _batches(run: Any, settings: BenchWhole) -> Any:
    config = dataclasses.replace(_config(run, "fused", settings), seed=run.config.seed + 1)
    return iter(open_training_data(config, RunFolder(run.folder)))


def _awake(run: Any, batch: dict[str, np.ndarray], settings: BenchWhole) -> list[int]:
    """Experts with any token, for each sparse layer, embedding a training batch of pairs."""
    config = _config(run, "pathways", settings)
    objective = task_of(config).objective
    names = list(jax.eval_shape(lambda: task_of(config).blank(1)))
    given = {name: jnp.asarray(batch[name]) for name in names}
    key = jax.random.key(0)
    params = jax.device_put(run.params)
    lowered = lower(objective, params, given, key)
    jax.block_until_ready(lowered(*lowered.split(params, given, key)))
    return [int((counts > 0).sum()) for counts in lowered.awake()]


def _inference(run: Any, settings: BenchWhole) -> list[dict[str, Any]]:
    batches = _batches(run, settings)
    batch = next(batches)
    rows = []
    for name, make, keys in (
        ("image", image_embedding, ("image",)),
        ("text", text_embedding, ("text", "text_mask")),
    ):
        for size in settings.sizes:
            given = [jnp.asarray(batch[key][:size]) for key in keys]
            given.append(jnp.ones(size, bool))
            rows.append({"input": name, "batch": size, **_infer(run, make, given, settings)})
    return rows


def _infer(run: Any, make: Any, given: list[Any], settings: BenchWhole) -> dict[str, Any]:
    params = jax.device_put(run.params)
    fused = jax.jit(make(_config(run, "fused", settings).model))
    devices = jax.devices()[: settings.devices]
    lowered = lower(make(by_pathways(run.config.model)), run.params, *given, devices=devices)
    split = lowered.split(params, *given)
    roads = {
        "fused": lambda: jax.block_until_ready(fused(params, *given)),
        "pathways": lambda: jax.block_until_ready(lowered(*split)),
    }
    rounds = time_rounds(roads, 3 * settings.repeats)
    a, b = np.asarray(roads["fused"]()), np.asarray(roads["pathways"]().result())
    return {
        "fused_ms": 1e3 * rounds.median("fused"),
        "pathways_ms": 1e3 * rounds.median("pathways"),
        "ratio": rounds.ratio("pathways", "fused"),
        "quartiles": rounds.quartiles("pathways", "fused"),
        "awake": [int((counts > 0).sum()) for counts in lowered.awake()],
        "difference": float(np.abs(a - b).max()),
    }


def _score(run: Any, mode: str, settings: BenchWhole) -> dict[str, float]:
    """Validation scores after further training on the same batches."""
    config = _config(run, mode, settings)
    training = prepare(config)
    state = _started(training, run)
    batches = _batches(run, settings)
    for _ in range(settings.score_steps):
        state, _ = training.step(state, training.put(next(batches)))
    return validation_of(config, RunFolder(run.folder)).scores(training.params(state))
