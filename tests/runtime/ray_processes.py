"""What tests with islands of a Ray share: one to have them in, and whether processes are alive."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path


@contextlib.contextmanager
def a_ray_to_use(ray):
    """The address of a Ray: starting one takes longer than using it."""
    from byways.runtime import ray_start

    started = not os.environ.get("BYWAYS_TEST_RAY")
    if started:
        ray_start.start_ray(ray, 6, None)
        os.environ["BYWAYS_TEST_RAY"] = ray.get_runtime_context().gcs_address
    try:
        yield os.environ["BYWAYS_TEST_RAY"]
    finally:
        ray.shutdown()
        if started:
            del os.environ["BYWAYS_TEST_RAY"]


def alive(pid):
    """Whether a process is there, and not dead and only not waited for."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def gone(pids, seconds=15):
    """Whether none of these processes is there, soon."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(alive, pids))
