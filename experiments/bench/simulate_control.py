"""The controller's own real time, over the number of devices: what of it grows?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime as rt
from .simulate_paper import paper_machine
from .simulate_settings import SimulateSettings


def simulate_control(settings: SimulateSettings) -> dict[str, Any]:
    """Real µs a node that tracing, lowering and dispatch take, without the model's own.

    It is CPU time of the thread, so that other processes do not count.

    Returns:
        {"rows": [{"islands", "devices", "trace", "lower", "dispatch", "alternating": µs a node}],
        "growth": `dispatch` of the most devices over that of the fewest}. `dispatch` is of chains
        that go on an island for a quarter of the nodes and more before the next has its turn,
        `alternating` of nodes on one island after the other, each a turn of its own.
    """
    rows = []
    for devices in settings.control:
        found = [_once(devices, settings.nodes) for _ in range(settings.repeats)]
        rows.append(
            {
                "islands": max(1, devices // 512),
                "devices": devices,
                **{key: statistics.median(one[key] for one in found) for key in found[0]},
            }
        )
    return {"rows": rows, "growth": rows[-1]["dispatch"] / rows[0]["dispatch"]}


def _once(devices: int, nodes: int) -> dict[str, float]:
    islands = max(1, devices // 512)
    each = devices // islands
    machine = paper_machine(islands=islands, hosts=each // 4, devices=4)
    # Shorter than any message, so that the controller never waits for the window.
    system = rt.SimulatedRuntime(machine, {"step": 1e-6})
    system.engine.watch = time.thread_time
    parts = [system.virtual_devices(name).add_slice(each) for name in system.islands]
    steps = [rt.computation(lambda x: x + 1, part, name="step") for part in parts]

    @rt.program
    def run(xs):
        found = []
        for step, x in zip(steps, xs, strict=True):
            for _ in range(nodes // len(steps)):
                x = step(x)
            found.append(x)
        return found

    @rt.program
    def alternating(xs):
        for _ in range(nodes // len(steps)):
            xs = [step(x) for step, x in zip(steps, xs, strict=True)]
        return xs

    xs: Any = [jax.ShapeDtypeStruct((), jnp.float32)] * len(parts)
    # A function is traced once, whatever the program; what is measured is the program.
    for step in steps:
        step(xs[0])
    count = nodes // len(steps) * len(steps)
    per_node = 1e6 / count
    found = {"trace": per_node * _spent(system, lambda: run.trace(xs))}
    found["lower"] = per_node * _spent(system, lambda: run.compile(xs))
    alternating.compile(xs)
    for name, program in (("dispatch", run), ("alternating", alternating)):
        took = min(_spent(system, lambda program=program: program(xs)) for _ in range(5))
        found[name] = per_node * took
    return found


def _spent(system: Any, work: Callable[[], Any]) -> float:
    """Seconds of this thread, less those of the model."""
    engine, began = system.engine, time.thread_time()
    before = engine.spent
    keep = work()
    took = time.thread_time() - began - (engine.spent - before)
    del keep
    return took
