"""The file by which a cluster's controller is found on its machine. Imports no JAX.

One for each cluster that this user has, by the cluster's name. It holds the token, so nobody else
may read it; it is written whole or not at all; a lock beside it, which the controller holds as long
as it lives, tells a living cluster from the file of a dead one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import IO, Any

from .attach_errors import AttachError

DEFAULT = "default"


@dataclasses.dataclass(frozen=True)
class ClusterFile:
    """What is known of a cluster.

    Attributes:
        name: of the cluster.
        address: of its controller, `host:port`.
        token: who knows it may run anything there.
        pid: of the controller.
        host: the machine that it is on.
        ray: address of its Ray; empty if its islands are of the controller's own process.
        log: where its controller writes what goes wrong.
        started: when, in seconds since 1970.
    """

    name: str
    address: str
    token: str = dataclasses.field(repr=False)
    pid: int
    host: str
    ray: str
    log: str
    started: float


def state_folder() -> Path:
    """Where such files are: `$BYWAYS_STATE`, else in the user's runtime or state directory."""
    given = os.environ.get("BYWAYS_STATE")
    if given:
        return Path(given)
    running = os.environ.get("XDG_RUNTIME_DIR")
    if running and os.access(running, os.W_OK):
        return Path(running) / "byways"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "byways"


def cluster_path(name: str) -> Path:
    """The file of a cluster.

    Raises:
        AttachError: a name that is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise AttachError(
            f"cluster {name!r}: a name is of letters, digits, dots and dashes, at most 64"
        )
    return state_folder() / f"{name}.json"


def write_cluster(found: ClusterFile) -> Path:
    """Writes a cluster's file whole or not at all, for this user's eyes alone."""
    path = cluster_path(found.name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(found), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def read_cluster(name: str = DEFAULT) -> ClusterFile:
    """What is written of a cluster, which may be dead by now (`cluster_alive`).

    Raises:
        AttachError: nothing is, or nothing that can be read.
    """
    path = cluster_path(name)
    option = "" if name == DEFAULT else f" --name {name}"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return ClusterFile(**found)
    except FileNotFoundError:
        others = sorted(found.stem for found in path.parent.glob("*.json"))
        known = f" (there are files of {', '.join(others)})" if others else ""
        raise AttachError(
            f"no cluster {name!r} is up: there is no {path}{known}. Start one by "
            f"`byways cluster up{option}`, or give an address and a token"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise AttachError(
            f"{path} is no cluster's file ({error}): remove it, and start a cluster by "
            f"`byways cluster up{option}`"
        ) from None


def cluster_alive(name: str) -> bool:
    """Whether a controller of this name lives on this machine: it holds the lock then."""
    lock = hold_cluster(name)
    if lock is None:
        return True
    lock.close()
    return False


def hold_cluster(name: str) -> IO[str] | None:
    """The lock of a cluster, to be held as long as its controller lives; None if another has it.

    The kernel's (`flock`): a killed process leaves none behind.
    """
    path = cluster_path(name).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def forget_cluster(name: str, pid: int | None = None) -> bool:
    """Removes a cluster's file, of this process id if one is given; whether there was one."""
    path = cluster_path(name)
    with contextlib.suppress(AttachError):
        if pid is not None and read_cluster(name).pid != pid:
            return False
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def this_host() -> str:
    """The machine's name."""
    return socket.gethostname()
