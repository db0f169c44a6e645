"""What dispatching a node costs: one by one, as a chain, in one (Barham et al. 2022, Figure 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ... import runtime as rt
from .rounds import time_rounds
from .runtime_ray import ROADS, time_ray
from .runtime_settings import BenchRuntime

# Collectives of plain JAX in flight: with 64 the CPU back end hangs.
BOUND = 16


def bench_dispatch(settings: BenchRuntime) -> dict[str, Any]:
    """Microseconds a node of a chain, on every road, with and without an all-reduce.

    `op by op` waits for each result, as the paper's; `calls` are the same calls without waiting;
    `chained` is one program of n nodes; `fused` is all n in one node. Ray's roads only add.

    Returns:
        {"one device": {road: µs}, "all-reduce": {road: µs}, "ray": {road: µs or why not},
        "chained_over_calls": µs a node that a program's node costs above a bare `jit` call,
        "ray_actors_over_chained", "ray_compiled_over_chained": ratios, where Ray ran}.
    """
    parts: dict[str, Any] = {}
    system = rt.Runtime()
    devices = system.virtual_devices()
    one = devices.add_slice(1)
    x = jax.device_put(jnp.zeros(()), one.devices[0])
    rounds = _time(settings, one, _add, _plain(_add), x, None)
    parts["one device"] = _micros(rounds, settings)
    over = 1e6 * rounds.difference("chained", "jax calls") / settings.nodes
    if len(jax.devices()) >= settings.devices > 1:
        part = devices.add_slice(settings.devices)
        spec = PartitionSpec("device")
        reduce = jax.shard_map(_all_reduce, mesh=part.mesh, in_specs=spec, out_specs=spec)
        spread = NamedSharding(part.mesh, spec)
        x = jax.device_put(jnp.zeros(settings.devices), spread)
        plain = _plain(reduce, spread)
        parts["all-reduce"] = _micros(_time(settings, part, reduce, plain, x, spec), settings)
    parts["chained_over_calls"] = over
    parts["ray"] = {}
    for road in ROADS if settings.ray else ():
        repeats = max(2, settings.repeats // 3)
        parts["ray"][road] = time_ray(road, settings.nodes, repeats, settings.patience)
        if "microseconds" in parts["ray"][road]:
            ratio = parts["ray"][road]["microseconds"] / parts["one device"]["chained"]
            parts[f"ray_{road}_over_chained"] = ratio
    return parts


def _time(
    settings: BenchRuntime,
    part: Any,
    function: Callable,
    jitted: Callable,
    x: jax.Array,
    spec: PartitionSpec | None,
) -> Any:
    n = settings.nodes
    bound = BOUND if spec is not None else n
    node = rt.computation(function, part, name="add", in_specs=spec, out_specs=spec)
    whole = _repeated(function, n)
    fused = rt.computation(whole, part, name="fused", in_specs=spec, out_specs=spec)
    fused_jit = _plain(whole, x.sharding)

    @rt.program
    def chained(y):
        for _ in range(n):
            y = node(y)
        return y

    def calls(call: Callable, wait: int) -> Callable[[], Any]:
        def road():
            y = x
            for count in range(1, n + 1):
                y = call(y)
                if count % wait == 0:
                    jax.block_until_ready(y)
            return jax.block_until_ready(y)

        return road

    roads = {
        "jax op by op": calls(jitted, 1),
        "jax calls": calls(jitted, bound),
        "jax fused": lambda: jax.block_until_ready(fused_jit(x)),
        "op by op": calls(node, 1),
        "calls": calls(node, n),
        "chained": lambda: jax.block_until_ready(chained(x)),
        "fused": lambda: jax.block_until_ready(fused(x)),
    }
    return time_rounds(roads, settings.repeats)


def _micros(rounds: Any, settings: BenchRuntime) -> dict[str, float]:
    return {name: 1e6 * rounds.median(name) / settings.nodes for name in rounds.seconds}


def _plain(function: Callable, sharding: Any = None) -> Callable:
    return jax.jit(function) if sharding is None else jax.jit(function, out_shardings=sharding)


def _add(x: jax.Array) -> jax.Array:
    return x + 1


def _all_reduce(x: jax.Array) -> jax.Array:
    """The sum over devices of a scalar each, and an addition; scaled, so that it stays finite."""
    return jax.lax.pmean(x, "device") + jax.lax.axis_index("device") * 0 + 1


def _repeated(function: Callable, times: int) -> Callable:
    def repeated(x):
        return jax.lax.fori_loop(0, times, lambda _, y: function(y), x)

    return repeated
