"""A chain of Ray actors and a Ray compiled graph, in a process that is ended if it hangs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("runtime_ray_child.py")
ROADS = ("actors", "compiled")


def ray_installed() -> bool:
    """Whether there is a Ray; does not import it, which takes seconds."""
    try:
        importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def time_ray(road: str, nodes: int, repeats: int, patience: float) -> dict[str, Any]:
    """Microseconds a node of one road, in a Ray of its own.

    Args:
        road: `actors` or `compiled`.
        nodes: of the chain.
        repeats: chains; the median counts.
        patience: seconds for all of it, starting Ray (7 s) included.

    Returns:
        {"microseconds", "ray"}, or {"skipped": why} where it is absent, fails or hangs.
    """
    if not ray_installed():
        return {"skipped": "Ray is not installed: pip install 'byways[ray]'"}
    # Outside the checkout, whose `datasets` would be another's in the workers; loopback only.
    environment = os.environ | {
        "PYTHONSAFEPATH": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    command = [sys.executable, "-P", "-c", CHILD.read_text(), road, str(nodes), str(repeats)]
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            out, err = child.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            return {"skipped": f"it hung: no answer in {patience:g} s"}
        finally:
            _end(child)
    if child.returncode:
        lines = err.strip().splitlines()
        return {"skipped": f"it failed: {lines[-1] if lines else f'code {child.returncode}'}"}
    return json.loads(out.strip().splitlines()[-1])


def _end(child: subprocess.Popen) -> None:
    """Ends the process and its group. Ray's daemons die with the process that began them."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
