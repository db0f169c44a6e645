"""What a node costs where its island is another process, beside the same done by plain Ray."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ... import runtime as rt
from ..errors import RunError
from .islands_actor import Adder
from .islands_settings import BenchIslands


def bench_chain(system: rt.Runtime, settings: BenchIslands) -> dict[str, Any]:
    """Times chains of nodes, each on the last one's array, until the result is here.

    Args:
        system: of an island.
        settings: sizes.

    Returns:
        {"rows": [{"way": `island` (all in one message), `local` (in this process) or `ray` (two
        plain actors in turn, arrays through Ray's store), "microseconds" (a node, median over
        rounds), "quartiles"}], "ray_over_island": of a node, where plain Ray was timed}.

    Raises:
        RunError: a chain made something else.
    """
    with rt.Runtime({"here": jax.local_devices()[:1]}) as here:
        ways = {"island": _chain(system, settings), "local": _chain(here, settings)}
        if settings.plain:
            ways["ray"] = _plain(settings)
        seconds = _rounds(ways, settings)
    per_node = {
        way: [1e6 * one / (settings.chains * settings.nodes) for one in found]
        for way, found in seconds.items()
    }
    rows = [
        {
            "way": way,
            "microseconds": statistics.median(found),
            "quartiles": [float(q) for q in np.quantile(found, [0.25, 0.75])],
        }
        for way, found in per_node.items()
    ]
    if not settings.plain:
        return {"rows": rows}
    pairs = zip(per_node["ray"], per_node["island"], strict=True)
    return {"rows": rows, "ray_over_island": statistics.median(a / b for a, b in pairs)}


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
