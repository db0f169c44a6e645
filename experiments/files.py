"""Files written whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from .errors import ExperimentError


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all: beside it first, then moved over it.

    Raises:
        OSError: the disk is full or the folder cannot be written; names the file. The old one is
            untouched.
    """
    try:
        _write_bytes(path, data)
    except OSError as error:
        # The kernel does not say what it had no room for, and of the temporary none has heard.
        error.filename = str(path)
        raise


def _write_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files private; a run folder is meant to be read by others.
        os.chmod(name, 0o644)
        os.replace(name, path)
        _sync(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def check_new(out: Path) -> None:
    """Before anything is read or computed; writing looks again.

    Raises:
        ExperimentError: something is there already, or nothing can be made there.
    """
    if os.path.lexists(out):
        raise ExperimentError(f"{out} exists: name another folder, or remove it")
    check_place(out, "folder")


def check_place(out: Path, what: str = "file") -> None:
    """Whether something may be written there, whatever is there already.

    Args:
        out: the file or folder to write.
        what: which of both.

    Raises:
        ExperimentError: nothing can be made there.
    """
    if what == "file" and out.is_dir():
        raise ExperimentError(f"{out} is a folder; name a file")
    above = next(folder for folder in Path(os.path.abspath(out)).parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        why = "may not be written in" if above.is_dir() else "is a file"
        raise ExperimentError(f"{out}: {above} {why}; name another {what}")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def copy_file(source: Path, target: Path) -> None:
    """Copies a file whole or not at all."""
    write_bytes(target, source.read_bytes())


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value, for hashing.

    Examples:
        >>> canonical_json({"b": 1, "a": (2, 3)})
        b'{"a":[2,3],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sync_tree(folder: Path) -> None:
    """Brings every file below a folder, and the folders, from memory onto the disk."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(path: Path) -> None:
    """Removes a folder and all in it; one that is not there is no error."""
    shutil.rmtree(path, ignore_errors=True)
