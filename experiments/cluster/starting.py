"""Starting a cluster's controller, as a process that outlives this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from ...runtime import (
    AttachError,
    ClusterFile,
    ControllerSettings,
    cluster_alive,
    cluster_path,
    forget_cluster,
    read_cluster,
)
from ..errors import ExperimentError, Interrupted

# Seconds between two looks whether it is there.
LOOK = 0.05
# Lines of the controller's log that are shown when it does not start.
LINES = 20


def start_cluster(settings: ControllerSettings) -> ClusterFile:
    """Starts a controller, which starts or joins a Ray and makes the islands.

    Args:
        settings: what the cluster is to be, and how soon clients must be able to come in.

    Returns:
        what is known of it.

    Raises:
        ExperimentError: a cluster of this name is up, or it does not start; nothing of it is left
            running then.
    """
    path = cluster_path(settings.name)
    if cluster_alive(settings.name):
        raise ExperimentError(_who_is_there(settings.name))
    if forget_cluster(settings.name):
        print(f"the file of a dead cluster, {path}, is removed", file=sys.stderr)
    log = path.with_suffix(".log")
    process = _controller(settings, log)
    try:
        _wait(process, settings.name, settings.patience)
        return read_cluster(settings.name)
    except KeyboardInterrupt:
        _end(process)
        raise Interrupted(f"stopped; cluster {settings.name!r} is not up") from None
    except TimeoutError:
        _end(process)
        raise ExperimentError(
            f"cluster {settings.name!r} was not up after {settings.patience:g} s, and was ended; a "
            f"slow machine takes longer (--patience), and {log} may say why:\n{_last(log)}"
        ) from None
    except ChildProcessError:
        raise ExperimentError(f"cluster {settings.name!r} does not start:\n{_last(log)}") from None


def _controller(settings: ControllerSettings, log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own, which no signal of this terminal reaches, and in no checkout."""
    with log.open("wb") as file:
        os.chmod(log, 0o600)
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "byways.runtime.controller_process", settings.to_json()],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], name: str, patience: float) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(AttachError):
            if read_cluster(name).pid == process.pid:
                return
        if process.poll() is not None:
            raise ChildProcessError
        time.sleep(LOOK)
    raise TimeoutError


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its Ray ends with it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _who_is_there(name: str) -> str:
    option = "" if name == "default" else f" --name {name}"
    try:
        found = read_cluster(name)
    except AttachError:
        return f"a cluster {name!r} is just starting or ending: look again in a moment"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found.started))
    return (
        f"cluster {name!r} is up since {since}: process {found.pid} at {found.address}. Attach by "
        f"runtime.attach(), end it by `byways cluster down{option}`, or start another by --name"
    )


def _last(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError as error:
        return f"  (its log cannot be read: {error})"
    return "\n".join(f"  {line}" for line in lines[-LINES:]) or "  (its log is empty)"
