"""Ending a cluster and everything that was started for it, whatever state it is in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

from ...runtime import (
    AttachError,
    ClusterFile,
    Watched,
    cluster_alive,
    forget_cluster,
    read_cluster,
)
from ..errors import ExperimentError

# Seconds that a controller which does not answer is waited for, and one that was sent a signal.
ANSWER, SIGNAL = 10.0, 5.0


def end_cluster(name: str, patience: float = 60.0) -> list[str]:
    """Ends the controller, its islands, and the Ray that was started for them.

    Args:
        name: of the cluster.
        patience: seconds for it to end by itself, before it is killed.

    Returns:
        what was ended, a line each.

    Raises:
        ExperimentError: no cluster of this name is up, or it is on another machine.
    """
    try:
        found = read_cluster(name)
    except AttachError as error:
        if cluster_alive(name):
            raise ExperimentError(
                f"cluster {name!r} is just starting or ending: try again in a moment"
            ) from None
        raise ExperimentError(str(error)) from None
    if found.host != os.uname().nodename:
        raise ExperimentError(
            f"cluster {name!r} is on {found.host!r}, and this is {os.uname().nodename!r}: end it "
            "there"
        )
    if not cluster_alive(name):
        forget_cluster(name)
        return [f"nothing: controller {found.pid} was dead already; its file is removed"]
    before = _stopped(name)
    if not _ended(name, patience if before else 0.0):
        _kill(name, found)
    forget_cluster(name, found.pid)
    return _told(found, before)


def _stopped(name: str) -> dict[str, Any] | None:
    """How things were, of a controller that was told to end; None if it does not answer."""
    try:
        with Watched(cluster=name, patience=ANSWER) as watched:
            return watched.stop()
    except AttachError:
        return None


def _ended(name: str, patience: float) -> bool:
    end = time.monotonic() + patience
    while cluster_alive(name):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _kill(name: str, found: ClusterFile) -> None:
    # It holds the lock, so the number is still its own.
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, number)
        if _ended(name, SIGNAL):
            return
    raise ExperimentError(
        f"controller {found.pid} of cluster {name!r} does not end, though it was killed: the "
        "system may be at fault"
    )


def _told(found: ClusterFile, before: dict[str, Any] | None) -> list[str]:
    if before is None:
        ray = f", and with it the Ray at {found.ray}, if it was its own" if found.ray else ""
        return [f"controller {found.pid}, which did not answer and was killed{ray}"]
    lines = [f"controller {found.pid} at {found.address}"]
    for island in before["islands"]:
        if island["pid"] not in (None, found.pid):
            state = ", lost before" if island["lost"] else ""
            lines.append(f"island {island['name']!r}, process {island['pid']}{state}")
    if found.ray:
        kind = "the Ray at" if before["own ray"] else "(left as it is: the Ray at"
        lines.append(f"{kind} {found.ray}" + ("" if before["own ray"] else ")"))
    lines += [f"client {client['name']!r} was sent away" for client in before["clients"]]
    lines += [f"value {value['name']!r} is freed" for value in before["values"]]
    return lines
