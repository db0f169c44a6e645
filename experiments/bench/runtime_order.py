"""Parallel against sequential dispatch over stages on slices of their own (Figure 7)."""

from __future__ import annotations

from typing import Any

import jax

from ... import runtime as rt
from .rounds import time_rounds
from .runtime_settings import BenchRuntime
from .runtime_work import matrix, products

# Matrix products of a stage, and batches that go through the stages.
LENGTH, WIDTH, BATCHES = 4, 64, 8


def bench_order(settings: BenchRuntime) -> dict[str, Any]:
    """Milliseconds of a few batches through S stages, dispatched both ways.

    `parallel` enqueues every stage of every batch before it waits. `sequential` is what a client
    does that knows a node's place only from its inputs: in each round it enqueues all nodes whose
    inputs are there, over all batches, and waits for their outputs.

    Returns:
        {"rows": [{"stages", "parallel", "sequential": ms, "ratio": sequential over parallel}]}.
    """
    rows = []
    for stages in settings.stages:
        devices = rt.Runtime().virtual_devices()
        slices = [devices.add_slice(1) for _ in range(stages)]
        x = matrix(min(WIDTH, settings.width), slices[0].devices[0])
        nodes = [
            rt.computation(products(LENGTH), part, name=f"stage {s}")
            for s, part in enumerate(slices)
        ]
        rounds = time_rounds(_roads(nodes, x), settings.repeats)
        rows.append(
            {
                "stages": stages,
                "parallel": 1e3 * rounds.median("parallel"),
                "sequential": 1e3 * rounds.median("sequential"),
                "ratio": rounds.ratio("sequential", "parallel"),
            }
        )
    return {"rows": rows}


def _roads(nodes: list[Any], x: jax.Array) -> dict[str, Any]:
    @rt.program
    def through(y):
        for node in nodes:
            y = node(y)
        return y

    def parallel():
        return jax.block_until_ready([through(x) for _ in range(BATCHES)])

    def sequential():
        batches = [x] * BATCHES
        for tick in range(BATCHES + len(nodes) - 1):
            ready = [b for b in range(BATCHES) if 0 <= tick - b < len(nodes)]
            for b in ready:
                batches[b] = nodes[tick - b](batches[b])
            jax.block_until_ready([batches[b] for b in ready])
        return batches

    return {"parallel": parallel, "sequential": sequential}
