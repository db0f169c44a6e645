"""A Ray to have islands on: one that runs already, or one of our own, on this machine alone."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from .errors import RuntimeFault
from .faults import said
from .ray_probe import NoRay, Probed, probe

# What the Ray that is started here, and all of its processes, find in their environment: none has a
# checkout on its path; islands are as eager as this process; a slow machine may take its time.
STARTING = {
    "PYTHONSAFEPATH": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_USAGE_STATS_ENABLED": "0",
}


# Seconds for a port to take a connection.
REACH = 5.0
# Where Ray reads whether processes ask each other for a token. Given an address, it does not look
# whether there is one, as it does where it finds or starts a Ray itself.
MODE = "RAY_AUTH_MODE"


class RayMissing(RuntimeFault):
    """Ray is not installed, not where it was said to be, of another version, or has too little."""


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
        RayMissing: none of our version that lets us in answers there, or it does not start.
    """
    if ray.is_initialized():
        return False
    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is not None:
        _join(ray, address, common)
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


def _join(ray: Any, address: str, options: dict[str, Any]) -> None:
    """Connects to a Ray that runs. What can be known before Ray tries, for minutes, is asked."""
    try:
        if address == "auto":  # RAY_ADDRESS, or what runs here
            address = ray._private.services.get_ray_address_from_environment("auto", None)
        host, port = _place(address)
        socket.create_connection((host, port), REACH).close()
        _check(ray, address, probe(address))
        if host in ("127.0.0.1", "localhost", "::1"):
            _stay_on_loopback(ray)
        with _quiet():
            ray.init(address=address, **options)
    except RayMissing:
        raise
    except NoRay as error:
        raise RayMissing(
            f"what listens at {address!r} is no Ray, or a stuck one ({error}): give the address "
            "that `ray start --head` tells, or leave it out"
        ) from None
    except Exception as error:
        raise RayMissing(
            f"no Ray answers at {address!r} ({said(error)}): start one by `ray start --head`, "
            "or leave the address out"
        ) from error


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        client = " (ray:// leads to Ray's client server, through which there are no islands)"
        raise RayMissing(
            f"address {address!r}: a Ray's is host:port, as `ray start --head` tells it, or 'auto' "
            f"for the one on this machine{client if address.startswith('ray:') else ''}"
        )
    return host.strip("[]"), int(port)


def _check(ray: Any, address: str, found: Probed | None) -> None:
    """Whether we and the Ray there fit; asks it with our token from now on if it wants one."""
    if found is None:
        return
    mode = os.environ.get(MODE, "").lower()
    where = f"the Ray at {address!r}"
    if found.token in ("wrong", "missing"):
        have = "and this process has none" if found.token == "missing" else "other than ours"
        raise RayMissing(
            f"{where} wants a token, {have}: put what `ray get-auth-token` says on its machine "
            "into ~/.ray/auth_token here, or into RAY_AUTH_TOKEN"
        )
    if found.token == "right" and mode not in ("", "token"):
        raise RayMissing(f"{where} wants a token, and {MODE} is {mode!r} here: unset it")
    if found.token == "none" and mode == "token":
        raise RayMissing(
            f"{where} asks for no token, and this process would (it has {MODE}=token, or has had a "
            f"Ray of its own), so that its islands could not answer: begin another process with "
            f"{MODE}=disabled, or start that Ray with {MODE}=token"
        )
    ours = ray.__version__, ".".join(map(str, sys.version_info[:2]))
    theirs = found.ray, ".".join(found.python.split(".")[:2])
    if found.ray and theirs != ours:
        raise RayMissing(
            f"{where} is {theirs[0]} on Python {theirs[1]}, and here are {ours[0]} and {ours[1]}: "
            "install the same on both sides"
        )
    if found.token == "right" and not mode:
        os.environ[MODE] = "token"
        ray._raylet.Config.initialize("")  # else it remembers what was there before


def why_not(error: BaseException) -> str:
    """Why a process of Ray's did not start: what its Python lacks, or what it raised."""
    text = said(error)
    lacks = re.search(r"No module named '([\w.]+)'", text)
    if lacks is None:
        return text
    return (
        f"the Python of Ray's workers has no {lacks[1]!r}: install byways, as it is here, where "
        "Ray was started, and start Ray from there"
    )


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
