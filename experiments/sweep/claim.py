"""One process at a time on one run, which the next one waits for."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import RunError
from ..lock import FolderLock
from .plan import Plan, PlannedRun

_POLL = 0.5


def claim_folder(plan: Plan, run: PlannedRun) -> Path:
    """Where the lock of a run lies, which its run folder cannot hold before it is one."""
    return plan.folder / ".claims" / run.name


@contextmanager
def claimed(plan: Plan, run: PlannedRun) -> Iterator[None]:
    """Holds a run; waits for a process that holds it, since it will have done the work.

    It may be an executor's other process that needs the same run first, or one that is still
    saving after its sweep was killed.
    """
    folder = claim_folder(plan, run)
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        try:
            lock = FolderLock(folder)
            break
        except RunError:
            if not told:
                print(f"{run.name} is held by another process; waiting for it", file=sys.stderr)
            told = True
            time.sleep(_POLL)
    with lock:
        yield


def is_claimed(plan: Plan, run: PlannedRun) -> bool:
    """Whether a process holds the run now."""
    path = claim_folder(plan, run) / ".lock"
    try:
        file = path.open()
    except OSError:
        return False
    with file:
        try:
            # Shared, so that two who look do not see each other.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
