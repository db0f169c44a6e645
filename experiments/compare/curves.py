"""A run's curves: what was logged, over steps, training FLOPs and seconds of training."""

from __future__ import annotations

import bisect
import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from ..config import ClassificationConfig, Experiment, LanguageConfig
from ..metrics_log import read_lines
from ..run_folder import RunFolder

By = Literal["step", "flops", "seconds"]
Line = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Effort:
    """What training has taken up to each logged step; the parts are in parallel.

    Attributes:
        steps: optimiser steps done, from 0.
        flops: model FLOPs of training up to there (`utilisation.py` says what counts).
        seconds: of training steps up to there, with compiling and saving, without validation. They
            add up over the starts of a run; what was done twice after a kill counts once.
    """

    steps: tuple[int, ...]
    flops: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, step: int, by: By) -> float:
        """How much `step` steps took; between logged steps, and after them, at an even rate."""
        if by == "step":
            return float(step)
        return _line(self.steps, getattr(self, by), step)


@dataclasses.dataclass(frozen=True)
class Curve:
    """One logged number of a run.

    Attributes:
        key: its name in the log.
        steps: that it was logged at.
        values: there, finite.
        effort: of the run.
        lost: steps at which it was logged and was not finite.
    """

    key: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    effort: Effort
    lost: tuple[int, ...] = ()

    def points(self, by: By = "step") -> tuple[tuple[float, float], ...]:
        """(x, value), by x: steps, FLOPs or seconds."""
        pairs = zip(self.steps, self.values, strict=True)
        return tuple((self.effort.at(step, by), value) for step, value in pairs)


def validation_key(config: Experiment) -> str:
    """The validation number that is drawn: `top1`, or a decoder's `entropy` (nats a token)."""
    return "entropy" if isinstance(config, LanguageConfig) else "top1"


def training_key(config: Experiment) -> str:
    """The training loss without what the routers add to it, which is not alike in all models."""
    plain = isinstance(config, ClassificationConfig | LanguageConfig)
    return "loss/cross_entropy" if plain else "loss/contrastive"


def read_curves(folder: Path | str) -> tuple[Curve, Curve]:
    """The validation and the training curve of a run folder; what was not logged is empty.

    Imports JAX, for the FLOPs.

    Raises:
        RunError: not a run folder.
    """
    run = RunFolder(folder)
    config, _ = run.read()
    lines = read_lines(run.metrics_file) if run.metrics_file.is_file() else []
    effort = effort_of(lines, config)
    return (
        curve_of(lines, effort, validation_key(config), "validation"),
        curve_of(lines, effort, training_key(config), "train"),
    )


def curve_of(lines: Sequence[Line], effort: Effort, key: str, kind: str = "validation") -> Curve:
    """One number of the log.

    Args:
        lines: of `metrics.jsonl`.
        effort: by `effort_of` the same lines.
        key: of the lines' metrics.
        kind: of lines: `validation` or `train`.
    """
    found: dict[int, float] = {}
    lost: list[int] = []
    for line in lines:
        if line["kind"] != kind or key not in line["metrics"]:
            continue
        value = line["metrics"][key]
        if value is None or not math.isfinite(value):
            # What is not finite is logged as null.
            lost.append(line["step"])
        else:
            found[line["step"]] = float(value)
    return Curve(key, tuple(found), tuple(found.values()), effort, tuple(lost))


def effort_of(lines: Sequence[Line], config: Experiment, count_flops: bool = True) -> Effort:
    """What the steps took, from the log's times.

    The share of real tokens, which texts of different lengths make differ, is `mfu / hfu` of
    each line; lines without them count full texts.

    Args:
        lines: of `metrics.jsonl`.
        config: of the run.
        count_flops: else FLOPs are all zero, and JAX is not imported.
    """
    needed, done = step_flops(config) if count_flops else (0.0, 0.0)
    steps, flops, seconds = [0], [0.0], [0.0]
    pace = _pace(lines, config.batch_size)
    for line in lines:
        new = line["step"] - steps[-1]
        if line["kind"] != "train" or new <= 0:
            continue
        times = line["times"]
        mfu, hfu = times.get("mfu"), times.get("hfu")
        each = done * mfu / hfu if mfu and hfu else needed
        steps.append(line["step"])
        flops.append(flops[-1] + new * each)
        seconds.append(seconds[-1] + _seconds(times, new, pace, config.batch_size))
    return Effort(tuple(steps), tuple(flops), tuple(seconds))


def step_flops(config: Experiment) -> tuple[float, float]:
    """Model and hardware FLOPs of a training step whose texts are full. Imports JAX."""
    import numpy as np

    from ..tasks import task_of

    rows, model = config.batch_size, config.model
    if isinstance(config, ClassificationConfig):
        batch = {"label": np.zeros((rows,), np.int32)}
    elif isinstance(config, LanguageConfig):
        tokens = np.zeros((rows, model.max_length), np.int32)
        batch = {"tokens": tokens, "segments": np.ones_like(tokens)}
    else:
        batch = {"text_mask": np.ones((rows, model.text_length), bool)}
    return task_of(config).flops(batch)


def _pace(lines: Sequence[Line], batch_size: int) -> float:
    """Median seconds of a step; 0 where nothing was timed."""
    rates = [line["times"].get("examples_per_second") for line in lines if line["kind"] == "train"]
    rates = [rate for rate in rates if rate]
    return batch_size / statistics.median(rates) if rates else 0.0


def _seconds(times: dict[str, Any], new: int, pace: float, batch_size: int) -> float:
    """Seconds of `new` steps. A line after a resume has timed only those since the checkpoint; the
    steps before it, which another start did and did not log, count at the run's pace."""
    seconds, rate = times.get("seconds") or 0.0, times.get("examples_per_second")
    if not seconds or not rate:
        return float(seconds)
    timed = max(1, round(rate * seconds / batch_size))
    return float(seconds) + max(0, new - timed) * pace


def _line(xs: Sequence[int], ys: Sequence[float], x: int) -> float:
    """The broken line through (xs, ys), whose ends go on straight."""
    if len(xs) < 2:
        return 0.0
    right = min(max(bisect.bisect_left(xs, x), 1), len(xs) - 1)
    left = right - 1
    slope = (ys[right] - ys[left]) / (xs[right] - xs[left])
    return ys[left] + slope * (x - xs[left])
