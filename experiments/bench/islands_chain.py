"""What a node costs where its island is another process, beside the same done by plain Ray."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ... import runtime as rt
from ..errors import RunError
from .islands_actor import Adder
from .islands_settings import BenchIslands, check_islands
from .moe import circumstances

# Of the issue that these figures answer to.
NODE, FASTER = 60.0, 20.0


def bench_islands(settings: BenchIslands) -> dict[str, Any]:
    """Times chains of nodes, each on the last one's array, until the result is here.

    Returns:
        {"rows": [{"way": `island` (all in one message), `local` (in this process) or `ray` (two
        plain actors in turn, arrays through Ray's store), "microseconds" (a node, median over
        rounds), "quartiles"}], "targets": [{"name", "value", "wanted", "met"}], …}.

    Raises:
        UsageError: settings that cannot be measured.
        RunError: Ray is not installed, not there, or does not start.
    """
    check_islands(settings)
    try:
        system = rt.RayRuntime(1, address=settings.address)
    except rt.RayMissing as error:
        raise RunError(str(error)) from error
    with system, rt.Runtime({"here": jax.local_devices()[:1]}) as here:
        ways = {"island": _chain(system, settings), "local": _chain(here, settings)}
        if settings.plain:
            ways["ray"] = _plain(settings)
        seconds = _rounds(ways, settings)
    per_node = {
        way: [1e6 * one / (settings.chains * settings.nodes) for one in found]
        for way, found in seconds.items()
    }
    medians = {way: statistics.median(found) for way, found in per_node.items()}
    rows = [
        {
            "way": way,
            "microseconds": medians[way],
            "quartiles": [float(q) for q in np.quantile(found, [0.25, 0.75])],
        }
        for way, found in per_node.items()
    ]
    targets = [_target("a node on an island, µs", medians["island"], f"≤ {NODE:g}", NODE)]
    if settings.plain:
        ratio = statistics.median(
            plain / mine for plain, mine in zip(per_node["ray"], per_node["island"], strict=True)
        )
        found = _target("plain Ray over an island, a node", ratio, f"≥ {FASTER:g}×", FASTER)
        targets.append(found | {"met": ratio >= FASTER})
    load = os.getloadavg()[0]
    return {"rows": rows, "targets": targets, "load": load, **circumstances(settings)}


def _chain(system: rt.Runtime, settings: BenchIslands) -> Callable[[], Any]:
    add = rt.computation(lambda x: x + 1, system.virtual_devices().add_slice(1), name="add")

    @rt.program(name="chain")
    def chain(x: Any) -> Any:
        for _ in range(settings.nodes):
            x = add(x)
        return x

    start = np.zeros(settings.size, np.float32)

    def chains() -> Any:
        x: Any = start
        for _ in range(settings.chains):
            x = chain(x)
        return x.result()

    return chains


def _plain(settings: BenchIslands) -> Callable[[], Any]:
    import ray  # pyright: ignore[reportMissingImports]

    actors = [ray.remote(num_cpus=0)(Adder).remote() for _ in range(2)]
    start = jax.numpy.zeros(settings.size)

    def chain() -> Any:
        x: Any = start
        for n in range(settings.chains * settings.nodes):
            x = actors[n % 2].add.remote(x)
        return ray.get(x)

    return chain


def _rounds(ways: dict[str, Callable[[], Any]], settings: BenchIslands) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(settings.repeats + 2):  # the first two compile, and connect
        for way, run in ways.items():
            began = time.perf_counter()
            made = np.asarray(run())
            took = time.perf_counter() - began
            if (made != settings.chains * settings.nodes).any():
                raise RunError(f"{way}: {settings.chains} chains of {settings.nodes} made {made}")
            if number >= 2:
                seconds[way].append(took)
    return seconds


def _target(name: str, value: float, wanted: str, limit: float) -> dict[str, Any]:
    return {"name": name, "value": value, "wanted": wanted, "met": value <= limit}
