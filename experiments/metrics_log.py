"""A run's metrics: one JSON object a line, mirrored to TensorBoard."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import write_bytes


class MetricsLog:
    """Appends metric lines, whole and at once.

    A line is `{"step", "kind", "metrics", "times"}`. Write the lines of a step before saving
    its checkpoint: then, after a resume, the file equals an uninterrupted run's but for
    `times`. Numbers that are not finite are written as null, since JSON has none.
    """

    def __init__(self, path: Path, resume_step: int = 0, tensorboard: Path | None = None):
        """Opens the log, and cuts off what came after the checkpoint that the run resumes from.

        Args:
            path: `metrics.jsonl`.
            resume_step: lines up to this step are kept; 0 starts an empty file.
            tensorboard: folder of the TensorBoard mirror; None is no mirror.
        """
        self._path = path
        if path.exists():
            kept = [line for line in read_lines(path) if line["step"] <= resume_step]
            write_bytes(path, "".join(_encode(line) for line in kept).encode())
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")
        self._mirror = None
        if tensorboard is not None:
            from tensorboardX import SummaryWriter

            self._mirror = SummaryWriter(
                str(tensorboard), purge_step=resume_step + 1 if resume_step else None
            )

    def write(
        self,
        step: int,
        kind: str,
        metrics: Mapping[str, Any],
        times: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes one line, so that a kill afterwards does not lose it.

        Args:
            step: optimiser steps done.
            kind: `train` or `validation`.
            metrics: flat keys `a/b` to scalars; reproducible.
            times: what may differ between two runs of the same config.

        Raises:
            RunError: the disk is full or the file cannot be written.
        """
        line = {
            "step": int(step),
            "kind": kind,
            "metrics": {key: _number(value) for key, value in metrics.items()},
            "times": {key: _number(value) for key, value in (times or {}).items()},
        }
        try:
            self._file.write(_encode(line))
            self._file.flush()
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written at step {step} ({error.strerror or error}); make "
                "room and run the same command again: it goes on from the last checkpoint"
            ) from error
        if self._mirror is not None:
            for group in ("metrics", "times"):
                for key, value in line[group].items():
                    if value is not None:
                        tag = f"{kind}/{key}" if group == "metrics" else f"times/{kind}/{key}"
                        self._mirror.add_scalar(tag, value, step)

    def close(self) -> None:
        """Closes the file and the mirror."""
        self._file.close()
        if self._mirror is not None:
            self._mirror.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file; one torn by a kill, or damaged, ends it."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not _is_line(line):
            break
        lines.append(line)
    return lines


def _is_line(line: Any) -> bool:
    """Whether it is as `MetricsLog` writes lines."""
    if not (isinstance(line, dict) and type(line.get("step")) is int and _is_value(line["step"])):
        return False
    parts = (line.get("metrics"), line.get("times"))
    return isinstance(line.get("kind"), str) and all(
        isinstance(part, dict) and all(map(_is_value, part.values())) for part in parts
    )


def _is_value(value: Any) -> bool:
    """A number that others can hold, or none."""
    if isinstance(value, int):
        return abs(value) < 1 << 63
    return isinstance(value, float | None)


def _encode(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(", ", ": ")) + "\n"


def _number(value: Any) -> float | int | None:
    if isinstance(value, bool | int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
