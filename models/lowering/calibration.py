"""`calibrate`: the numbers of the cost model, from a few runs of a small layer both ways."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...routing import DISPATCHERS, Assignment, ExpertMlp
from .cost import FIRST, Calibration, Costs
from .layer_work import LayerWork
from .lowered import lower

WIDTH, HIDDEN, EXPERTS, PAIRS = 256, 1024, 8, 256
WEIGHTS = 2 * WIDTH * HIDDEN
# Rows of each expert: nobody; one expert alone, with few rows and with all; all, with few and many.
COUNTS: tuple[tuple[int, ...], ...] = (
    (0,) * EXPERTS,
    (8,) + (0,) * (EXPERTS - 1),
    (PAIRS,) + (0,) * (EXPERTS - 1),
    (8,) * EXPERTS,
    (PAIRS // EXPERTS,) * EXPERTS,
)
REPEATS = 12


def calibrate(device: Any = None) -> Calibration:
    """Measures this kind of device, once in a process: a second or two, most of it compiling.

    Args:
        device: a `jax.Device`; None is the first of `jax.devices()`.
    """
    device = jax.devices()[0] if device is None else device
    return _calibrate(device, device.platform, device.device_kind)


@functools.cache
def _calibrate(device: Any, platform: str, kind: str) -> Calibration:
    begin = time.perf_counter()
    with jax.default_device(device):
        measured = [_measure(device, train) for train in (False, True)]
        rest, turn = _outside()
    layers = [LayerWork(counts, WIDTH, HIDDEN, PAIRS) for counts in COUNTS]
    pairs: list[tuple[Costs, Costs]] = []
    # Two products there, four more back; outside of the experts back costs about what there does.
    for (fused, apart), ways, products in zip(measured, (1, 2), (1, 3), strict=True):
        least = 2 * pairs[0][0].row if pairs else 0.0
        row = max(least, row_rate(layers, fused, apart))
        theirs = fit_pathways(layers, apart, row)
        pairs.append((fit_fused(layers, fused, theirs, ways * rest, products * turn), theirs))
    (there, there_apart), (back, back_apart) = pairs
    costs = (there, back), (there_apart, back_apart)
    return Calibration(*costs, shared=platform == "cpu", seconds=time.perf_counter() - begin)


def row_rate(layers: Sequence[LayerWork], fused: Sequence[float], apart: Sequence[float]) -> float:
    """Seconds of a row times a weight: what the device can do, so of both ways the lower."""
    rows = (
        layers[4].fused_rows - layers[3].fused_rows,
        layers[4].pathways_rows - layers[3].pathways_rows,
    )
    found = [_rate(way[4] - way[3], more) for way, more in zip((fused, apart), rows, strict=True)]
    return min(found) or max(found)


def fit_fused(
    layers: Sequence[LayerWork], seconds: Sequence[float], apart: Costs, always: float, start: float
) -> Costs:
    """Costs out of the five runs.

    Args:
        layers, seconds: of `COUNTS`.
        apart: of the pathways, whose rates these are, too.
        always, start: what was found otherwise.
    """
    none, _, _, few, _ = seconds
    always, blocks = min(max(0.0, always), none), len(layers[3].blocks)
    every = (none - always) / (EXPERTS * WEIGHTS)
    spent = few - none - WEIGHTS * apart.row * layers[3].fused_rows - blocks * start
    weight = max(0.0, spent) / (WEIGHTS * blocks)
    return Costs(always, start, every, weight, apart.row, apart.long)


def fit_pathways(layers: Sequence[LayerWork], seconds: Sequence[float], row: float) -> Costs:
    """Costs out of the five runs: of what starts, programs and experts are told apart."""
    none, alone, one, few, _ = seconds
    short = (layers[1], layers[3])
    starts = np.array([[len(layer.programs), layer.awake * WEIGHTS] for layer in short], float)
    spent = [
        max(0.0, took - none - WEIGHTS * row * layer.pathways_rows)
        for took, layer in zip((alone, few), short, strict=True)
    ]
    start, weight = np.linalg.solve(starts, spent)
    if start < 0:  # noise: the one that is left explains both
        start, weight = 0.0, spent[1] / starts[1, 1]
    elif weight < 0:
        start, weight = spent[1] / starts[1, 0], 0.0
    left = one - none - start - WEIGHTS * (weight + FIRST * row)
    long = min(row, _rate(left, PAIRS - FIRST))
    return Costs(none, float(start), 0.0, float(weight), row, float(long))


def _rate(seconds: float, rows: int) -> float:
    return max(0.0, seconds) / (rows * WEIGHTS)


def _outside() -> tuple[float, float]:
    """Seconds of the fused layer with next to no experts, who have no rows; and of each block."""
    call = jax.jit(functools.partial(_layer, "blocked"))
    calls = [functools.partial(call, *_given(1, counts)) for counts in (COUNTS[0], COUNTS[3])]
    none, few = _seconds(calls)
    return none, max(0.0, few - none) / EXPERTS


def _measure(device: Any, train: bool) -> tuple[list[float], list[float]]:
    """Seconds of the fused layer and of the pathways, for each of `COUNTS`."""
    given = [_given(HIDDEN, counts) for counts in COUNTS]

    def run(dispatcher: str) -> Callable[..., Any]:
        def layer(weights: Any, tokens: Any, expert: Any) -> Any:
            out = _layer(dispatcher, weights, tokens, expert)
            return (jnp.sum(out), out) if train else out

        return layer

    fused = run("blocked")
    call = jax.jit(jax.value_and_grad(fused, (0, 1), has_aux=True) if train else fused)
    lowered = lower(run("pathways"), *given[0], devices=[device])
    apart = lowered.value_and_grad((0, 1)) if train else lowered
    split = [lowered.split(*args) for args in given]
    calls = [functools.partial(call, *args) for args in given]
    found = _seconds(calls + [functools.partial(apart, *args) for args in split])
    return found[: len(calls)], found[len(calls) :]


def _layer(dispatcher: str, weights: Any, tokens: Any, expert: Any) -> Any:
    return DISPATCHERS[dispatcher](_assignment(expert), tokens, ExpertMlp(*weights))


def _given(hidden: int, counts: Sequence[int]) -> tuple[Any, ...]:
    """Weights, tokens, and the expert of each token."""
    shapes = ((WIDTH, hidden), (hidden,), (hidden, WIDTH), (WIDTH,))
    keys = jax.random.split(jax.random.key(0), len(shapes) + 1)
    weights = tuple(
        jax.random.normal(key, (EXPERTS, *shape)) / shape[0] ** 0.5
        for key, shape in zip(keys, shapes, strict=False)
    )
    tokens = jax.random.normal(keys[-1], (1, PAIRS, WIDTH))
    return weights, tokens, _experts_of(counts)


def _seconds(calls: Sequence[Callable[[], Any]]) -> list[float]:
    """Of each the fastest of some turns: what the machine can do is asked, not what else it did."""
    times: list[list[float]] = [[] for _ in calls]
    for turn in range(REPEATS + 1):
        for call, own in zip(calls, times, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(call())
            if turn:  # the first compiles
                own.append(time.perf_counter() - begin)
    return [min(own) for own in times]


def _experts_of(counts: Sequence[int]) -> jax.Array:
    """(1, T) int32, the expert of each token; E of one that has none."""
    found = np.full((1, PAIRS), EXPERTS, np.int32)
    chosen = np.repeat(np.arange(EXPERTS), counts)
    found[0, : chosen.size] = chosen
    return jnp.asarray(found)


def _assignment(expert: jax.Array) -> Assignment:
    """Each token to its expert, if there is one, with weight 1."""
    kept = expert < EXPERTS
    token = jnp.broadcast_to(jnp.arange(PAIRS, dtype=jnp.int32), expert.shape)
    return Assignment(
        token=token,
        expert=jnp.where(kept, expert, 0),
        slot=jnp.zeros_like(expert),
        weight=jnp.ones(expert.shape, jnp.float32),
        routed=kept,
        kept=kept,
        num_tokens=PAIRS,
        num_experts=EXPERTS,
        capacity=None,
        layout="token",
    )
