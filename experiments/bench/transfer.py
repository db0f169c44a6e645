"""What our adapter costs beside bare `jax.experimental.transfer`, and where Ray's store is faster.

Another process offers and this one pulls. What is timed is a pull until the bytes are there, and
the word to the other process to offer, which is the same for all ways: a line through a pipe.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import transfer
from jax.sharding import SingleDeviceSharding

from ...runtime import Ticket, Transfers
from ..errors import RunError
from .moe import circumstances
from .rounds import time_rounds
from .runtime_ray import ray_installed
from .transfer_settings import MEGABYTE, BenchTransfer, check_transfer

Ask = Callable[[dict[str, Any]], dict[str, Any]]  # of the other process

# Ray's object store, until its input ends.
HEAD = """
import logging, sys, ray
ray.init(num_cpus=1, include_dashboard=False, object_store_memory=2**30,
         _node_ip_address="127.0.0.1", logging_level=logging.ERROR, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
CHILD = "from byways.experiments.bench.transfer_child import main; main()"


def bench_transfer(settings: BenchTransfer) -> dict[str, Any]:
    """Times each size by each way, in turns.

    Returns:
        {"rows": [{"kilobytes", "bare", "adapter", "ray" (ms a transfer; None where there is no
        Ray), "ratio" (adapter over bare, median over rounds), "quartiles", "added" (ms of the
        adapter over bare)}], "skipped": why there is no Ray, or "", "targets": [{"name", "value",
        "wanted", "met"}], …}.

    Raises:
        UsageError: settings that cannot be measured.
        RunError: the other process failed or hung.
    """
    check_transfer(settings)
    load = os.getloadavg()[0]
    with _peer(settings) as ask, Transfers("bench") as mine:
        roads = {
            "bare": _bare(ask, ask({"do": "start"})["address"]),
            "adapter": _adapter(ask, mine, "direct"),
        }
        with _ray(settings, ask) as skipped:
            if not skipped:
                roads["ray"] = _adapter(ask, mine, "ray")
            rows = [_row(settings, ask, roads, size) for size in settings.kilobytes]
    return {
        "rows": rows,
        "skipped": skipped,
        "targets": _targets(rows),
        **circumstances(settings),
        "load": load,
    }


def _row(
    settings: BenchTransfer,
    ask: Ask,
    roads: dict[str, Callable[[int], None]],
    kilobytes: int,
) -> dict[str, Any]:
    ask({"do": "make", "count": 256 * kilobytes})
    calls = settings.calls(kilobytes)

    def many(road: Callable[[int], None]) -> Callable[[], None]:
        def calls_in_turn() -> None:
            for _ in range(calls):
                road(256 * kilobytes)

        return calls_in_turn

    times = time_rounds({name: many(road) for name, road in roads.items()}, settings.repeats)
    ms = {name: 1e3 * times.median(name) / calls for name in roads}
    return {
        "kilobytes": kilobytes,
        **ms,
        "ray": ms.get("ray"),
        "ratio": times.ratio("adapter", "bare"),
        "quartiles": times.quartiles("adapter", "bare"),
        "added": 1e3 * times.difference("adapter", "bare") / calls,
    }


def _bare(ask: Ask, address: str) -> Callable[[int], None]:
    device = jax.devices()[0]
    server = transfer.start_transfer_server(device.client, "127.0.0.1:0", ["127.0.0.1:0"])
    connection = server.connect(address)
    where = SingleDeviceSharding(device)

    def road(count: int) -> None:
        told = ask({"do": "bare"})
        shape = jax.ShapeDtypeStruct((count,), np.float32, sharding=where)
        connection.pull(told["identifier"], shape).block_until_ready()

    return road


def _adapter(ask: Ask, mine: Transfers, way: str) -> Callable[[int], None]:
    def road(count: int) -> None:
        ticket = Ticket.from_json(ask({"do": "offer", "way": way})["ticket"])
        mine.pull(ticket).result()

    return road


def _targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for row in rows:
        large = 1024 * row["kilobytes"] >= MEGABYTE
        name = "adapter over bare" if large else "ms that the adapter adds"
        value, limit = (row["ratio"], 1.1) if large else (row["added"], 0.2)
        found.append(
            {
                "name": f"{row['kilobytes']:,} KB: {name}",
                "value": value,
                "wanted": f"≤ {limit:g}",
                "met": value <= limit,
            }
        )
    return found


@contextlib.contextmanager
def _peer(settings: BenchTransfer) -> Iterator[Ask]:
    """The other process: a message to it, and its answer."""
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            # Outside the checkout, whose `datasets` would be another's.
            [sys.executable, "-P", "-c", CHILD],
            cwd=folder,
            env=os.environ | {"PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        watchdog = threading.Timer(settings.patience, child.kill)
        watchdog.daemon = True
        watchdog.start()

        def ask(message: dict[str, Any]) -> dict[str, Any]:
            assert child.stdin is not None
            assert child.stdout is not None
            print(json.dumps(message), file=child.stdin, flush=True)
            line = child.stdout.readline()
            if not line:
                raise RunError(
                    "the process that offers failed, with its message above, or was ended after "
                    f"--patience {settings.patience:g} s"
                )
            return json.loads(line)

        try:
            yield ask
        finally:
            assert child.stdin is not None
            assert child.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.wait()
            watchdog.cancel()
            child.stdout.close()


@contextlib.contextmanager
def _ray(settings: BenchTransfer, ask: Ask) -> Iterator[str]:
    """Both processes in one Ray; gives why not, "" if they are."""
    if not settings.ray:
        yield "it was not to be"
        return
    if not ray_installed():
        yield "Ray is not installed: pip install 'byways[ray]'"
        return
    # A process of its own: Ray starts its own by forking, which JAX's threads may not survive.
    # Ray reads this when it is imported, which it has not been here or there.
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    os.environ |= secret | quiet
    head = subprocess.Popen(
        [sys.executable, "-P", "-c", HEAD],
        cwd=tempfile.gettempdir(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    ray: Any = None
    try:
        assert head.stdout is not None
        address = head.stdout.readline().strip()
        if not address:
            yield "it did not start, with its message above"
            return
        ray = importlib.import_module("ray")
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
        ask({"do": "ray", "address": address, "environment": secret | quiet})
        yield ""
        ask({"do": "leave"})
    finally:
        if ray is not None:
            ray.shutdown()
        head.communicate()
