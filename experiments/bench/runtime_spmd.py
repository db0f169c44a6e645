"""A training step run as one SPMD node, beside the same step by plain `jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from ... import runtime as rt
from .rounds import Rounds, time_rounds
from .runtime_model import batch_of, layers, whole_loss
from .runtime_settings import BenchRuntime

# Times that the state is made anew.
BEGINNINGS = 10


def bench_spmd(settings: BenchRuntime) -> dict[str, Any]:
    """Throughput of AdamW steps that donate their state, on one device and over two.

    Both sides are the same function with the same shardings and donation. A look at the clock
    comes after `steps` steps, none of which waits for another: that is how a trainer runs.

    Returns:
        {"rows": [{"devices", "jax", "runtime": ms a step, "ratio": throughput of the runtime over
        plain JAX's, "quartiles": of that}]}.
    """
    counts = [count for count in (1, 2) if count <= min(settings.devices, len(jax.devices()))]
    return {"rows": [_row(settings, count) for count in counts]}


def _row(settings: BenchRuntime, devices: int) -> dict[str, Any]:
    part = rt.Runtime().virtual_devices().add_slice({"data": devices})
    data = PartitionSpec("data")
    inputs, targets = batch_of(settings.batch, settings.width)
    optimizer = optax.adamw(1e-3)
    loss = whole_loss(remat=False)

    def step(state: Any, inputs: jax.Array, targets: jax.Array) -> tuple[Any, jax.Array]:
        params, moments = state
        value, grads = jax.value_and_grad(loss)((params,), inputs, targets)
        updates, moments = optimizer.update(grads[0], moments, params)
        return (optax.apply_updates(params, updates), moments), value

    if devices == 1:
        same = spread = SingleDeviceSharding(part.devices[0])
    else:
        same, spread = NamedSharding(part.mesh, PartitionSpec()), NamedSharding(part.mesh, data)
    batch = jax.device_put((inputs, targets), spread)

    def state() -> Any:
        params = layers(settings.layers, settings.width)
        return jax.device_put((params, optimizer.init(params)), same)

    plain = jax.jit(
        step, donate_argnums=0, in_shardings=(same, spread, spread), out_shardings=(same, same)
    )
    node = rt.computation(step, part, name="step", donate=(0,), in_specs=(None, data, data))
    # Where its buffers happen to lie makes a step some per cent faster or slower, for as long as
    # it updates them in place: so both sides begin anew a few times.
    seconds: dict[str, list[float]] = {"jax": [], "runtime": []}
    for begun in range(min(BEGINNINGS, settings.repeats)):
        calls = {"jax": plain, "runtime": node}
        order = list(calls) if begun % 2 else list(calls)[::-1]
        roads = {name: _steps(calls[name], state(), batch, settings.steps) for name in order}
        part_of_all = time_rounds(roads, max(1, settings.repeats // BEGINNINGS))
        for name, own in part_of_all.seconds.items():
            seconds[name] += own
    rounds = Rounds(seconds)
    pairs = zip(rounds.seconds["jax"], rounds.seconds["runtime"], strict=True)
    ratios = sorted(a / b for a, b in pairs)
    return {
        "devices": devices,
        "jax": 1e3 * rounds.median("jax") / settings.steps,
        "runtime": 1e3 * rounds.median("runtime") / settings.steps,
        "ratio": rounds.ratio("jax", "runtime"),
        "quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
    }


def _steps(call: Callable, state: Any, batch: tuple[Any, Any], steps: int) -> Callable[[], Any]:
    held = [state]

    def road():
        value = None
        for _ in range(steps):
            held[0], value = call(held[0], *batch)
        return jax.block_until_ready(value)

    return road
