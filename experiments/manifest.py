"""What a whole checkpoint consists of: every file with its size and digest.

Orbax commits a checkpoint by renaming its folder, but neither it nor its array store
notices every flipped byte. So a manifest beside the folder is written last; a folder
without one was not finished, and one that does not agree with it is damaged.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from .files import canonical_json, sha256_file, write_json

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One checkpoint's contents besides its arrays, and its files' digests.

    Attributes:
        step: optimiser steps done.
        score: validation score for keep-best, higher is better; None is not scored.
        extra: what else resuming needs (the data iterator's state), as JSON.
        fingerprint: the config that the checkpoint belongs to, as nested dictionaries.
        files: relative path to (bytes, SHA-256).
    """

    step: int
    score: float | None
    extra: dict[str, Any]
    fingerprint: dict[str, Any]
    files: dict[str, tuple[int, str]]

    def write(self, path: Path) -> None:
        """Writes it whole or not at all, with its own digest."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        write_json(path, {"content": content, "sha256": _digest(content)})


class DamagedError(Exception):
    """A checkpoint that must not be used; the message says why."""


def describe_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder: relative path to (bytes, SHA-256)."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_file(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest and checks it against its own digest.

    Raises:
        DamagedError: it is missing (the save was cut off), truncated, altered, or of a
            later format.
    """
    try:
        data = json.loads(path.read_text())
        content = data["content"]
        fits = data["sha256"] == _digest(content)
    except FileNotFoundError:
        raise DamagedError("incomplete: the process stopped while it was being saved") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"its manifest {path.name} cannot be read ({error})") from error
    if not fits:
        raise DamagedError(f"its manifest {path.name} was altered")
    if content["format"] != FORMAT:
        raise DamagedError(f"its format is {content['format']}; this version reads {FORMAT}")
    files = {name: (size, digest) for name, (size, digest) in content["files"].items()}
    return Manifest(
        content["step"], content["score"], content["extra"], content["fingerprint"], files
    )


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Checks every file of a checkpoint against its manifest.

    Raises:
        DamagedError: a file is missing, truncated or altered; it is named.
    """
    for name, (size, digest) in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"file {name} is missing")
        found = path.stat().st_size
        if found != size:
            raise DamagedError(f"file {name} has {found} bytes where {size} were written")
        if sha256_file(path) != digest:
            raise DamagedError(f"file {name} was altered (its SHA-256 differs)")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
