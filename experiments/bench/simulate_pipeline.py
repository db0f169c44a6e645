"""A 3B decoder in pipeline stages, on one island and over four (Table 2 and Figure 10)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime as rt
from .simulate_paper import PIPELINE_FLOPS, PIPELINES, TOKENS, paper_machine
from .simulate_settings import SimulateSettings

PARAMETERS, WIDTH, HOST = 3e9, 2048, 8
# Of the figure that the devices' rate was fitted to.
FITTED = (1, 128, 4, 16)


def simulate_pipeline(settings: SimulateSettings) -> dict[str, Any]:
    """Tokens a second of the real `rt.pipeline`, GPipe, whose backwards recompute their forwards.

    Returns:
        {"rows": [{"islands", "devices", "stages", "micro_batches", "tokens", "published": a second,
        "error", "fitted", "narrow": tokens with a window of 16 gangs, "bubble": of the ideal}]}.
    """
    rows = []
    for (islands, devices, stages, micro), published in PIPELINES.items():
        tokens = tokens_per_second(islands, devices, stages, micro, settings.window)
        rows.append(
            {
                "islands": islands,
                "devices": devices,
                "stages": stages,
                "micro_batches": micro,
                "tokens": tokens,
                "published": published,
                "error": tokens / published - 1,
                "fitted": (islands, devices, stages, micro) == FITTED,
                "narrow": tokens_per_second(islands, devices, stages, micro, 16),
                "bubble": (stages - 1) / (micro + stages - 1),
            }
        )
    return {"rows": rows}


def tokens_per_second(
    islands: int, devices: int, stages: int, micro: int, window: int, schedule: str = "gpipe"
) -> float:
    """Of one step after another.

    Args:
        islands: over which the stages are spread, in order.
        devices: of all islands together.
        stages: S.
        micro: M micro-batches.
        window: gangs in flight on an island.
        schedule: of the pipeline.
    """
    machine = paper_machine(
        islands=islands,
        hosts=devices // islands // HOST,
        devices=HOST,
        flops=PIPELINE_FLOPS,
    )
    forward = rt.SimCost(flops=2 * PARAMETERS / stages * TOKENS / micro)
    backward = rt.SimCost(flops=3 * forward.flops)
    costs = {"forward *": forward, "backward *": backward, "*": 0.0}
    system = rt.SimulatedRuntime(machine, costs, window=window)
    names = list(system.islands)
    slices = [
        system.virtual_devices(names[s * islands // stages]).add_slice(devices // stages)
        for s in range(stages)
    ]

    def stage(w, x):
        return jnp.tanh(x @ w)

    def loss(y, targets):
        return jnp.mean(y - targets)

    step = rt.pipeline([stage] * stages, slices, loss, micro_batches=micro, schedule=schedule)
    w = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.bfloat16)
    x = jax.ShapeDtypeStruct((TOKENS, WIDTH), jnp.bfloat16)
    jax.block_until_ready(step([w] * stages, x, x))
    began = system.now
    jax.block_until_ready(step([w] * stages, x, x))
    return TOKENS / (system.now - began)
