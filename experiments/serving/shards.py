"""What is embedded so far: a file for each batch, whole or not there, joined at the end."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from ..errors import RunError
from ..files import canonical_json, remove_tree, write_bytes, write_json
from ..lock import FolderLock

_NAME = "about.json"
# What the parts of an identity are called in messages.
_PARTS = {
    "model": "another model",
    "images": "another folder, or the folder has changed",
    "settings": "other settings",
}


class Shards:
    """The folder beside the result, `FILE.parts`, as long as there is no result.

    It is locked while it is open. A process may be killed at any time: a batch's file is moved
    into place when it is on the disk.

    Attributes:
        done: numbers of batches that are there.
    """

    def __init__(self, out: Path, identity: dict[str, Any], batches: int):
        """Args:
            out: the result's file, which is not there.
            identity: of what is embedded, by what, and how: `model`, `images` and `settings`.
            batches: how many there will be.

        Raises:
            RunError: the folder was begun for something else (what), or is in use.
        """
        self._out, self._identity, self._batches = out, identity, batches
        self.folder = parts_of(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = FolderLock(self.folder)
        except RunError:
            raise RunError(f"{self.folder} is in use: another process embeds to {out}") from None
        try:
            self._check()
        except BaseException:
            self._lock.close()
            raise
        self.done = {
            number for number in range(batches) if (self.folder / self._name(number)).is_file()
        }

    def _check(self) -> None:
        about = self.folder / _NAME
        if not about.is_file():
            write_json(about, self._identity)
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{about} is damaged ({error}): remove {self.folder}") from error
        differs = [
            f"{what} (it was {_brief(found.get(key))}, and is {_brief(self._identity[key])})"
            for key, what in _PARTS.items()
            if found.get(key) != self._identity[key]
        ]
        if differs:
            raise RunError(
                f"{self.folder} was begun with {'; and with '.join(differs)}: name another --out, "
                f"or remove {self.folder} to begin again"
            )
        for left in self.folder.glob(".*.safetensors.*"):  # of a process that was killed
            left.unlink(missing_ok=True)

    def _name(self, number: int) -> str:
        return f"{number:08d}.safetensors"

    def add(
        self, number: int, rows: Float[np.ndarray, "n F"], table: tuple[dict[str, Any], ...]
    ) -> None:
        """Keeps one batch.

        Args:
            number: of the batch.
            rows: of its images that could be read.
            table: of all of its files.
        """
        arrays = {"embeddings": np.ascontiguousarray(rows)}
        # One entry: safetensors puts several in whatever order.
        about = {"table": json.dumps(table)}
        write_bytes(self.folder / self._name(number), safetensors.numpy.save(arrays, about))
        self.done.add(number)

    def read(self, number: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """One batch that was kept.

        Raises:
            RunError: its file is damaged, and is removed.
        """
        path = self.folder / self._name(number)
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                return file.get_tensor("embeddings"), json.loads(file.metadata()["table"])
        except Exception as error:
            path.unlink(missing_ok=True)
            raise RunError(
                f"{path} was damaged, and is removed: run the command again ({error})"
            ) from error

    def join(self) -> list[dict[str, Any]]:
        """Writes the result and its table out of all batches; the parts are removed.

        Returns:
            the table: of each file `row` (None where there is none), `path`, `bytes`, and `sha256`
            or `error`.

        Raises:
            RunError: a batch is damaged.
        """
        parts, table, row = [], [], 0
        for number in range(self._batches):
            rows, found = self.read(number)
            parts.append(rows)
            for one in found:
                there = "error" not in one
                table.append({"row": row if there else None, **one})
                row += there
        lines = "".join(json.dumps(one) + "\n" for one in table).encode()
        about = {
            "format": 1,
            "model": self._identity["model"],
            "settings": self._identity["settings"],
            "table": {"name": table_of(self._out).name, "sha256": _sha256(lines)},
        }
        # The table first: the result is what says that all is there.
        write_bytes(table_of(self._out), lines)
        whole = {"embeddings": np.concatenate(parts)}
        about = {"byways": canonical_json(about).decode()}
        write_bytes(self._out, safetensors.numpy.save(whole, about))
        self.remove()
        return table

    def remove(self) -> None:
        """The parts are needed no more."""
        remove_tree(self.folder)

    def close(self) -> None:
        """Another process may have the folder."""
        self._lock.close()

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parts_of(out: Path) -> Path:
    """Where parts are as long as there is no result."""
    return out.with_name(out.name + ".parts")


def table_of(out: Path) -> Path:
    """The table of a result's rows: a line of JSON for each file."""
    return out.with_suffix(".jsonl")


def read_result(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a result says of itself, and its table.

    Raises:
        RunError: it is no such result, or its table is missing or another one's.
    """
    try:
        with safetensors.safe_open(out, framework="numpy") as file:
            about = json.loads(file.metadata()["byways"])
        table = table_of(out).read_bytes()
    except Exception as error:
        raise RunError(
            f"{out} exists and is no result of `byways embed` with its table beside it ({error}): "
            "name another --out"
        ) from error
    if _sha256(table) != about["table"]["sha256"]:
        raise RunError(f"{table_of(out)} is not the table of {out}: remove both, or name another")
    return about, [json.loads(line) for line in table.splitlines()]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _brief(part: Any) -> str:
    """Of an identity, what a person can tell apart."""
    if not isinstance(part, dict):
        return "nothing"
    return ", ".join(f"{key} {str(value)[:12]}" for key, value in part.items() if value is not None)


def fits(out: Path) -> bool:
    """Whether a file of that name is written as one of ours."""
    return out.suffix == ".safetensors" and out.name != ".safetensors" and not os.path.isdir(out)
