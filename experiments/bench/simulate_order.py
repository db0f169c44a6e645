"""Parallel against sequential dispatch over stages on hosts of their own (Figure 7)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime as rt
from .simulate_paper import paper_machine
from .simulate_settings import SimulateSettings


def simulate_order(settings: SimulateSettings) -> dict[str, Any]:
    """Milliseconds in which batches go through S stages on 4 devices each, dispatched both ways.

    `parallel` sends every stage of every batch before it waits; `sequential` sends, in each round,
    those nodes whose inputs are there, and waits for them.

    Returns:
        {"rows": [{"length": ms of a stage, "stages", "parallel", "sequential", "narrow": parallel
        with a window of 16 gangs, "ideal": ms of the devices alone, "ratio": sequential over
        parallel}]}.
    """
    rows = []
    for length in settings.lengths:
        for stages in settings.stages:
            ways = ((settings.window, False), (settings.window, True), (16, False))
            took = [1e3 * _through(settings.batches, stages, length / 1e3, *way) for way in ways]
            rows.append(
                {
                    "length": length,
                    "stages": stages,
                    "parallel": took[0],
                    "sequential": took[1],
                    "narrow": took[2],
                    "ideal": (stages + settings.batches - 1) * length,
                    "ratio": took[1] / took[0],
                }
            )
    return {"rows": rows}


def _through(batches: int, stages: int, seconds: float, window: int, waits: bool) -> float:
    machine = paper_machine(hosts=stages, devices=4)
    system = rt.SimulatedRuntime(machine, {"stage *": seconds}, window=window)
    devices = system.virtual_devices()
    nodes = [
        rt.computation(lambda x: x + 1, devices.add_slice(4), name=f"stage {n}")
        for n in range(stages)
    ]

    @rt.program
    def through(x):
        for node in nodes:
            x = node(x)
        return x

    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    if not waits:
        jax.block_until_ready([through(x) for _ in range(batches)])
        return system.now
    found: list[Any] = [x] * batches
    for tick in range(batches + stages - 1):
        ready = [b for b in range(batches) if 0 <= tick - b < stages]
        for b in ready:
            found[b] = nodes[tick - b](found[b])
        jax.block_until_ready([found[b] for b in ready])
    return system.now
