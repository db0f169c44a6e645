"""`calibrate`: the numbers of the cost model, from a few runs of a small layer both ways."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...routing import DISPATCHERS, Assignment, ExpertMlp
from .cost import FIRST, Calibration, Costs
from .layer_work import LayerWork
from .lowered import lower

WIDTH, HIDDEN, EXPERTS, PAIRS = 128, 512, 8, 512
WEIGHTS = 2 * WIDTH * HIDDEN
# Rows of each expert: nobody; one expert alone, with few rows and with all; all, with few and many.
COUNTS: tuple[tuple[int, ...], ...] = (
    (0,) * EXPERTS,
    (8,) + (0,) * (EXPERTS - 1),
    (PAIRS,) + (0,) * (EXPERTS - 1),
    (8,) * EXPERTS,
    (PAIRS // EXPERTS,) * EXPERTS,
)
REPEATS, TURNS = 20, 64


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
        copy, turn = _copying(), _turning()
    layers = [LayerWork(counts, WIDTH, HIDDEN, PAIRS) for counts in COUNTS]
    apart = tuple(fit_pathways(layers, found) for _, found in measured)
    # Two products there, four more back; all weights are taken out of their stacks. Outside of the
    # experts the way back costs about what the way there does.
    rest = measured[0][0][0] - copy - EXPERTS * 2 * turn
    fused = (
        fit_fused(layers, measured[0][0], rest, 2 * turn, apart[0]),
        fit_fused(layers, measured[1][0], 2 * rest, 6 * turn, apart[1]),
    )
    return Calibration(fused, (apart[0], apart[1]), platform == "cpu", time.perf_counter() - begin)


def fit_fused(
    layers: Sequence[LayerWork],
    seconds: Sequence[float],
    always: float,
    start: float,
    apart: Costs,
) -> Costs:
    """Costs out of the five runs.

    Args:
        layers, seconds: of `COUNTS`.
        always, start: what was found otherwise; within what was measured.
        apart: of the pathways, since these blocks are too short to tell what long ones gain.
    """
    none, _, _, few, many = seconds
    row = _rate(many - few, layers[4].fused_rows - layers[3].fused_rows)
    always = min(max(0.0, always), none)
    start = min(start, (none - always) / EXPERTS)
    every = ((none - always) / EXPERTS - start) / WEIGHTS
    blocks = len(layers[3].blocks)
    spent = few - none - WEIGHTS * row * layers[3].fused_rows - blocks * start
    long = row * apart.long / apart.row if apart.row else row
    return Costs(always, start, every, max(0.0, spent) / (WEIGHTS * blocks), row, long)


def fit_pathways(layers: Sequence[LayerWork], seconds: Sequence[float]) -> Costs:
    """Costs out of the five runs: of what starts, programs and experts are told apart."""
    none, alone, one, few, many = seconds
    row = _rate(many - few, layers[4].pathways_rows - layers[3].pathways_rows)
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


def _copying() -> float:
    """Seconds of copying as many weights as all experts have."""
    stack = jnp.zeros((EXPERTS, WEIGHTS))
    return _seconds([functools.partial(jax.jit(jnp.copy), stack)])[0]


def _turning() -> float:
    """Seconds of a loop's turn that multiplies next to nothing."""
    rows, weights = jnp.zeros((TURNS, WIDTH)), jnp.zeros((WIDTH, WIDTH))

    def turn(i: Any, out: Any) -> Any:
        x = lax.dynamic_slice_in_dim(rows, i, 1)
        return lax.dynamic_update_slice_in_dim(out, x @ weights, i, 0)

    call = jax.jit(lambda turns: lax.fori_loop(0, turns, turn, rows))
    long, short = _seconds([functools.partial(call, TURNS), functools.partial(call, 0)])
    return max(0.0, long - short) / TURNS


def _measure(device: Any, train: bool) -> tuple[list[float], list[float]]:
    """Seconds of the fused layer and of the pathways, for each of `COUNTS`."""
    shapes = ((WIDTH, HIDDEN), (HIDDEN,), (HIDDEN, WIDTH), (WIDTH,))
    keys = jax.random.split(jax.random.key(0), len(shapes) + 1)
    weights = tuple(
        jax.random.normal(key, (EXPERTS, *shape)) / shape[0] ** 0.5
        for key, shape in zip(keys, shapes, strict=False)
    )
    tokens = jax.random.normal(keys[-1], (1, PAIRS, WIDTH))
    given = [(weights, tokens, _experts_of(counts)) for counts in COUNTS]

    def run(dispatcher: str) -> Callable[..., Any]:
        def layer(weights: Any, tokens: Any, expert: Any) -> Any:
            experts = ExpertMlp(*weights)
            out = DISPATCHERS[dispatcher](_assignment(expert), tokens, experts)
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
