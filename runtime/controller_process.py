"""The process of a cluster's controller: `python -P -m byways.runtime.controller_process JSON`.

It starts or joins a Ray, makes the islands, writes the cluster's file when clients can come in, and
ends all of it when it is told to, or is sent SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import time
from typing import Any

from .attach_state import (
    ClusterFile,
    cluster_path,
    forget_cluster,
    hold_cluster,
    this_host,
    write_cluster,
)
from .controller_settings import ControllerSettings

# Of the time until clients must be able to come in, what islands have at most.
SHARE = 0.75


def main(arguments: list[str]) -> int:
    """Serves until it is told to stop; 1 is something that a person can mend, told on stderr."""
    began = time.monotonic()
    settings = ControllerSettings(**json.loads(arguments[0]))
    lock = hold_cluster(settings.name)
    if lock is None:
        print(f"another controller of cluster {settings.name!r} is alive", file=sys.stderr)
        return 1
    # The kernel takes it back when this process is gone, and no earlier: nobody closes this number.
    os.dup(lock.fileno())
    forget_cluster(settings.name)  # of a dead one
    # Not the environment, which the islands would inherit: this process computes nothing itself,
    # and leaves accelerators to them.
    import jax

    if settings.local:
        jax.config.update("jax_num_cpu_devices", settings.islands * settings.devices)
    else:
        jax.config.update("jax_platforms", "cpu")

    from .errors import RuntimeFault

    try:
        with contextlib.ExitStack() as stack:
            return _serve(settings, _runtime(settings, began, stack))
    except (RuntimeFault, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        forget_cluster(settings.name, os.getpid())


def _serve(settings: ControllerSettings, system: Any) -> int:
    from .controller import Controller

    token = secrets.token_hex(32)
    with Controller(system, token) as controller:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: controller.stopped.set())
        address = controller.listen(*settings.place)
        controller.about = _about(settings, system, address)
        write_cluster(
            ClusterFile(
                settings.name,
                address,
                token,
                os.getpid(),
                this_host(),
                controller.about["ray"],
                str(cluster_path(settings.name).with_suffix(".log")),
                time.time(),
            )
        )
        while not controller.stopped.wait(3600):
            pass
        time.sleep(0.1)  # who asked for the end is to read the answer
        # From now on nobody is sent here, however long the end takes.
        forget_cluster(settings.name, os.getpid())
    return 0


def _runtime(settings: ControllerSettings, began: float, stack: contextlib.ExitStack) -> Any:
    """Its runtime; islands that are processes are ended with the stack."""
    budget = settings.memory_budget or None
    if settings.local:
        import jax

        from .system import Runtime

        there = jax.local_devices()
        each = len(there) // settings.islands
        parts = [there[n * each : (n + 1) * each] for n in range(settings.islands)]
        named = {f"island{n}": part for n, part in enumerate(parts)}
        return Runtime(named, memory_budget=budget)
    from .ray_cluster import RayIslands
    from .ray_system import RayRuntime

    # Less than who started this has, so that they hear what is missing.
    left = SHARE * settings.patience - (time.monotonic() - began)
    hosts = stack.enter_context(
        RayIslands(
            settings.islands,
            devices=settings.devices,
            address=settings.ray or None,
            patience=max(1.0, left),
        )
    )
    return RayRuntime(hosts=hosts, memory_budget=budget)


def _about(settings: ControllerSettings, system: Any, address: str) -> dict[str, Any]:
    hosts = getattr(system, "hosts", None)
    return {
        "name": settings.name,
        "address": address,
        "ray": "" if hosts is None else hosts.address,
        "own ray": hosts is not None and not settings.ray,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
