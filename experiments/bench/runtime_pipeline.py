"""GPipe and 1F1B over stages on their own devices, beside one SPMD `jit` of the same model."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ... import runtime as rt
from .rounds import time_rounds
from .runtime_model import batch_of, layers, squared_error, stage, whole_loss
from .runtime_settings import BenchRuntime


def bench_pipeline(settings: BenchRuntime) -> dict[str, Any]:
    """Milliseconds of loss and gradients, for every number of stages S and micro-batches M.

    The peer is one `jit` over S devices with the batch spread over them, saving its residuals as
    XLA likes; `spmd remat` is the same with every stage recomputed, as pipelines do. A pipeline
    keeps each stage's devices idle for (S - 1) / (M + S - 1) of the step, which where S is more
    than the machine's cores costs nothing.

    Returns:
        {"rows": [{"stages", "micro_batches", "gpipe", "1f1b", "spmd", "spmd remat": ms,
        "gpipe_of_spmd", "1f1b_of_spmd": throughput over that of the faster SPMD, "bubble",
        "difference": largest of a gradient from SPMD's, over its leaf's largest}]}.
    """
    rows = [
        _row(settings, stages, count)
        for stages in settings.pipelines
        for count in settings.micro_batches
    ]
    return {"rows": rows}


def _row(settings: BenchRuntime, stages: int, count: int) -> dict[str, Any]:
    each = settings.layers // stages
    whole = layers(settings.layers, settings.width)
    params = tuple(whole[s * each : (s + 1) * each] for s in range(stages))
    inputs, targets = batch_of(settings.batch, settings.width)

    devices = rt.Runtime().virtual_devices()
    slices = [devices.add_slice(1) for _ in range(stages)]
    placed = tuple(
        jax.device_put(one, part.devices[0]) for one, part in zip(params, slices, strict=True)
    )
    steps = {
        schedule: rt.pipeline(
            [stage] * stages, slices, squared_error, micro_batches=count, schedule=schedule
        )
        for schedule in ("gpipe", "1f1b")
    }

    mesh = Mesh(np.array(jax.devices()[:stages]), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    given = jax.device_put((inputs, targets), spread)
    plain = {
        name: jax.jit(jax.value_and_grad(whole_loss(remat)))
        for name, remat in (("spmd", False), ("spmd remat", True))
    }

    def pipelined(step: Any) -> Any:
        return lambda: jax.block_until_ready(step(placed, inputs, targets))

    def spmd(call: Any) -> Any:
        return lambda: jax.block_until_ready(call(everywhere, *given))

    roads = {name: pipelined(step) for name, step in steps.items()}
    roads |= {name: spmd(call) for name, call in plain.items()}
    rounds = time_rounds(roads, settings.repeats)
    best = min(plain, key=rounds.median)
    _, wanted = roads["spmd"]()
    _, found = rt.fetch(roads["1f1b"]())
    return {
        "stages": stages,
        "micro_batches": count,
        **{name: 1e3 * rounds.median(name) for name in roads},
        **{f"{name}_of_spmd": rounds.ratio(best, name) for name in steps},
        "bubble": (stages - 1) / (count + stages - 1),
        "difference": max(jax.tree.leaves(jax.tree.map(_distance, found, wanted))),
    }


def _distance(found: jax.Array, wanted: jax.Array) -> float:
    a, b = np.asarray(found), np.asarray(wanted)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
