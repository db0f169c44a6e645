"""A run's metrics: one JSON object a line, mirrored to TensorBoard."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import RunError
from .files import write_bytes
from .tensorboard_mirror import TensorBoardMirror


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

        Raises:
            RunError: the disk is full or the file cannot be written.
        """
        self._path = path
        self._failed = False
        with self._told(f"for the steps from {resume_step + 1}"):
            if path.exists():
                kept = [line for line in read_lines(path) if line["step"] <= resume_step]
                write_bytes(path, "".join(_encode(line) for line in kept).encode())
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a")
        self._mirror = None
        if tensorboard is not None:
            self._mirror = TensorBoardMirror(tensorboard, resume_step)

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
        with self._told(f"at step {step}"):
            self._file.write(_encode(line))
            self._file.flush()
        if self._mirror is not None:
            tags = {"metrics": kind, "times": f"times/{kind}"}
            values = {
                f"{tag}/{key}": value
                for group, tag in tags.items()
                for key, value in line[group].items()
                if value is not None
            }
            self._mirror.write(line["step"], values)

    def sync(self) -> None:
        """Brings all lines from memory onto the disk, where a power cut leaves them.

        Raises:
            RunError: as `write`.
        """
        with self._told("onto the disk"):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file and the mirror.

        Raises:
            RunError: as `write`, where no error was raised before.
        """
        try:
            # What could not be written is still there to be, and fails once more.
            with contextlib.suppress(OSError) if self._failed else self._told("to its end"):
                self._file.close()
        finally:
            if self._mirror is not None:
                self._mirror.close()

    @contextlib.contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise RunError(
                f"{self._path} cannot be written {what} ({error.strerror or error}); make room "
                "and run the same command again: it goes on from the last checkpoint"
            ) from error

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
