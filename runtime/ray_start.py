"""A Ray to have islands on: one that runs already, or one of our own, on this machine alone."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any

from .errors import RuntimeFault
from .faults import said

# What the Ray that is started here, and all of its processes, find in their environment: none has a
# checkout on its path; islands are as eager as this process; a slow machine may take its time.
STARTING = {
    "PYTHONSAFEPATH": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class RayMissing(RuntimeFault):
    """Ray is not installed, not where it was said to be, or has too little."""


def the_ray() -> Any:
    """The module.

    Raises:
        RayMissing: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise RayMissing(
            "islands in other processes need Ray, which is not installed: pip install "
            "'byways[ray]', or use Runtime() for the devices of this process"
        ) from None


def start_ray(ray: Any, islands: int, address: str | None) -> bool:
    """Connects to a Ray, and starts one if no address is given; whether it is ours to end.

    Args:
        ray: the module.
        islands: cores that islands will ask for.
        address: as of `RayIslands`.

    Raises:
        RayMissing: none answers there, or it does not start.
    """
    if ray.is_initialized():
        return False
    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is not None:
        try:
            host, _, port = address.rpartition(":")
            if host:  # Ray itself asks for minutes
                socket.create_connection((host, int(port)), 5).close()
            if host in ("127.0.0.1", "localhost", "::1"):
                _stay_on_loopback(ray)
            with _quiet():
                ray.init(address=address, **common)
        except Exception as error:
            raise RayMissing(
                f"no Ray answers at {address!r} ({said(error)}): start one by `ray start --head`, "
                "or leave address out"
            ) from error
        return True
    with _environment(STARTING), _quiet():
        _stay_on_loopback(ray)
        try:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, islands),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **common,
            )
        except Exception as error:
            ray.shutdown()
            raise RayMissing(f"Ray does not start on this machine: {said(error)}") from error
    return True


def _stay_on_loopback(ray: Any) -> None:
    """Ray has this for other systems; else it takes the loopback for this machine's other address,
    where one that listens on the loopback alone is asked for in vain.
    """
    ray._private.ray_constants.ENABLE_RAY_CLUSTER = False


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what is no news: that a token is asked for, and that JAX dislikes forks (Ray's begin
    another program at once)."""
    log = logging.getLogger("ray._private.authentication")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """What is set already stays; what is set here is gone afterwards."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
