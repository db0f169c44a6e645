"""What a person sees of training: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class TrainingProgress:
    """Shows step, loss, examples/s, time left, routing success per modality, and load.

    On a terminal the line is live; elsewhere each call of `update` prints one plain line.
    """

    def __init__(self, steps: int, start: int = 0, console: Console | None = None):
        """Args:
        steps: optimiser steps of the whole run.
        start: steps done before, where the run was resumed.
        console: where to; standard error by default.
        """
        self._console = console or Console(stderr=True, highlight=False)
        self._steps, self._start = steps, start
        self._began = time.monotonic()
        self._live: Progress | None = None

    def __enter__(self) -> TrainingProgress:
        self._began = time.monotonic()
        if self._console.is_terminal:
            self._live = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[text]}"),
                console=self._console,
            )
            self._live.start()
            self._task = self._live.add_task("", total=self._steps, text="")
            self._live.update(self._task, completed=self._start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def advance(self, step: int) -> None:
        """Moves the bar to a step that has no metrics yet; nothing where there is no bar."""
        if self._live is not None:
            self._live.update(self._task, completed=step)

    def update(
        self, step: int, metrics: Mapping[str, Any], times: Mapping[str, Any] | None = None
    ) -> None:
        """Shows a metric line; keys as in `metrics.jsonl`."""
        text = summary(metrics, times or {}, self._left(step))
        if self._live is not None:
            self._live.update(self._task, completed=step, text=text)
        else:
            self.print(f"step {step}/{self._steps}  {text}")

    def print(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def _left(self, step: int) -> float | None:
        done = step - self._start
        if done <= 0:
            return None
        return (time.monotonic() - self._began) / done * (self._steps - step)


def summary(
    metrics: Mapping[str, Any], times: Mapping[str, Any], seconds_left: float | None
) -> str:
    """One line of a step: the worst layer stands for all.

    Examples:
        >>> metrics = {"loss": 3.25, "routing/encoderblock_1/success/image": 0.97,
        ...            "routing/encoderblock_3/success/image": 0.99,
        ...            "routing/encoderblock_1/max_load": 1.5}
        >>> summary(metrics, {"examples_per_second": 412.3}, 75.0)
        'loss 3.250  412 examples/s  left 1:15  routed image 97 %  load 1.50'
    """
    parts = []
    if "loss" in metrics:
        parts.append(f"loss {float(metrics['loss']):.3f}")
    if "examples_per_second" in times:
        parts.append(f"{float(times['examples_per_second']):.0f} examples/s")
    if seconds_left is not None:
        parts.append(f"left {clock(seconds_left)}")
    routed = []
    for modality in ("image", "text"):
        values = _layers(metrics, f"/success/{modality}")
        if values:
            routed.append(f"{modality} {100 * min(values):.0f} %")
    if routed:
        parts.append("routed " + ", ".join(routed))
    loads = _layers(metrics, "/max_load")
    if loads:
        parts.append(f"load {max(loads):.2f}")
    return "  ".join(parts)


def _layers(metrics: Mapping[str, Any], ending: str) -> list[float]:
    return [
        float(value)
        for key, value in metrics.items()
        if key.startswith("routing/") and key.endswith(ending)
    ]


def clock(seconds: float) -> str:
    """Seconds for people.

    Examples:
        >>> clock(75.0), clock(3725.0)
        ('1:15', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
