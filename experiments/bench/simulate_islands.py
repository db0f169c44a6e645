"""Data parallelism over islands against one island of as many devices (section 5.3)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from ... import runtime as rt
from .simulate_paper import DCN_BYTES, TOKENS, TWO_ISLANDS, paper_machine
from .simulate_settings import SimulateSettings

# Columns of a model's parameters, which are cut over the devices of an island.
WIDTH = 4096
HOST = 8  # devices
STEPS = 2


def simulate_islands(settings: SimulateSettings) -> dict[str, Any]:
    """Every island computes gradients on its part of the batch, sends them to the others, and adds.

    Returns:
        {"rows": [{"model", "islands", "devices": in all, "chunks": pieces of a gradient, "one",
        "several": seconds of a step, "of_one": throughput over one island's, "gigabytes": between
        islands in a step, "published", "published_gigabytes": or None, "fitted": it was what the
        link's rate was fitted to}]}.
    """
    rows = []
    for model, (parameters, devices, published, moved) in TWO_ISLANDS.items():
        for chunks in (1, settings.chunks):
            row = _row(model, parameters, 2, devices, chunks)
            if chunks == 1:
                row.update(published=published, published_gigabytes=moved / 1e9)
                row["fitted"] = model == "64B"
            rows.append(row)
    for chunks in (1, settings.chunks):
        rows.append(_row("136B", TWO_ISLANDS["136B"][0], 4, 512, chunks))
    return {"rows": rows}


def _row(model: str, parameters: float, islands: int, devices: int, chunks: int) -> dict[str, Any]:
    one, _ = step_seconds(parameters, 1, islands * devices, chunks)
    several, moved = step_seconds(parameters, islands, devices, chunks)
    return {
        "model": model,
        "islands": islands,
        "devices": islands * devices,
        "chunks": chunks,
        "one": one,
        "several": several,
        "of_one": one / several,
        "gigabytes": moved / 1e9,
        "published": None,
        "published_gigabytes": None,
        "fitted": False,
    }


def step_seconds(
    parameters: float, islands: int, devices: int, chunks: int = 1, dcn_bytes: float = DCN_BYTES
) -> tuple[float, float]:
    """Seconds of a training step, and bytes that go between islands in it.

    Args:
        parameters: of the model; each island has all of them, spread over its devices.
        islands: data parallel over them.
        devices: of each island.
        chunks: nodes that a gradient is made in; each part goes as soon as it is there.
        dcn_bytes: of a host's link, a second.
    """
    machine = paper_machine(
        islands=islands, hosts=devices // HOST, devices=HOST, dcn_bytes=dcn_bytes
    )
    part_of = parameters / chunks
    costs = {
        "gradient": rt.SimCost(flops=6 * part_of * TOKENS / islands),
        # Reads and writes of parameters and gradients in f32.
        "apply": rt.SimCost(bytes=4 * part_of * (2 + islands)),
    }
    system = rt.SimulatedRuntime(machine, costs)
    slices = [system.virtual_devices(name).add_slice(devices) for name in system.islands]
    spread = P(None, "device")
    gradients = [
        rt.computation(lambda w, before: 2 * w, part, name="gradient",
                       in_specs=(spread, None), out_specs=spread)
        for part in slices
    ]  # fmt: skip
    updates = [
        rt.computation(lambda w, *gs: w - sum(gs[1:], gs[0]), part, name="apply",
                       in_specs=spread, out_specs=spread)
        for part in slices
    ]  # fmt: skip

    @rt.program
    def step(params, batch):
        # params[island][chunk]
        made = [
            [gradient(w, batch) for w in mine]
            for gradient, mine in zip(gradients, params, strict=True)
        ]
        return [
            [update(w, *[one[n] for one in made]) for n, w in enumerate(mine)]
            for update, mine in zip(updates, params, strict=True)
        ]

    rows = int(part_of) // WIDTH
    leaf = jax.ShapeDtypeStruct((rows, WIDTH), jnp.float32)
    params: Any = [[leaf] * chunks for _ in slices]
    batch = jax.ShapeDtypeStruct((), jnp.int32)
    params = jax.block_until_ready(step(params, batch))
    began, before = system.now, system.totals.dcn
    for _ in range(STEPS):
        params = step(params, batch)
    jax.block_until_ready(params)
    return (system.now - began) / STEPS, (system.totals.dcn - before) / STEPS
