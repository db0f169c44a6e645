"""A pipeline whose two stages are on islands of a core each, against the ideal for its bubble."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ... import runtime as rt
from ..errors import RunError
from .islands_settings import BenchIslands
from .rounds import Rounds, time_rounds
from .runtime_model import batch_of, layers, squared_error, stage, whole_loss

SCHEDULES = ("gpipe", "1f1b")
# Of the layers that the first stage has, which does its forward twice and the last one's but once:
# so both take as long, within a fiftieth (measured, on a CPU).
FIRST = 0.45


def bench_pipeline(system: rt.Runtime, settings: BenchIslands) -> dict[str, Any]:
    """Times loss and gradients for every number of micro-batches M.

    The ideal for S = 2 stages is half of what the same nodes take on one island, on one core, times
    1 + (S - 1)/M for the bubble, at whose ends a stage has nothing to do. Nothing is added for
    what goes from island to island.

    Args:
        system: of two islands of a core each.
        settings: sizes.

    Returns:
        {"rows": [{"micro_batches", "one" (ms of all nodes on one island, mean of the two), "jit"
        (ms of one program without micro-batches on one), "gpipe", "1f1b" (ms), "ideal" (ms),
        "gpipe_of_ideal", "1f1b_of_ideal" (ideal over measured, median over rounds), "quartiles" (of
        the better one's), "speedup" (of the better one over `one`), "difference" (largest of a
        gradient from `jit`'s, over its leaf's largest), "messages" (to both islands)}]}.

    Raises:
        RunError: the loss is not that of one program.
    """
    names = list(system.islands)[:2]
    parts = [system.virtual_devices(name).add_slice(1) for name in names]
    return {"rows": [_row(parts, settings, count) for count in settings.micro_batches]}


def _row(parts: Sequence[rt.Slice], settings: BenchIslands, count: int) -> dict[str, Any]:
    whole = layers(settings.layers, settings.width)
    first = max(1, round(settings.layers * FIRST))
    params = whole[:first], whole[first:]
    batch = batch_of(settings.batch, settings.width)
    roads = {
        "first": _road([parts[0]] * 2, "1f1b", params, batch, count),
        "second": _road([parts[1]] * 2, "1f1b", params, batch, count),
        "jit": _jitted(parts[0], params, batch),
        **{s: _road(parts, s, params, batch, count) for s in SCHEDULES},
    }
    loss, wanted = rt.fetch(roads["jit"]())
    found = [rt.fetch(roads[name]()) for name in SCHEDULES]
    if any(abs(float(one[0]) - float(loss)) > 1e-3 * abs(float(loss)) for one in found):
        raise RunError(f"a pipeline's loss is {float(found[0][0])}, and one program's {loss}")
    boxes: list[Any] = [part.devices[0].outbox for part in parts]
    before = sum(box.messages for box in boxes)
    roads[SCHEDULES[1]]()
    messages = sum(box.messages for box in boxes) - before

    rounds = time_rounds(roads, settings.repeats)
    of_ideal = {name: _of_ideal(rounds, name, count) for name in SCHEDULES}
    best = max(SCHEDULES, key=lambda name: statistics.median(of_ideal[name]))
    one = statistics.mean(rounds.median(name) for name in ("first", "second"))
    return {
        "micro_batches": count,
        "one": 1e3 * one,
        **{name: 1e3 * rounds.median(name) for name in ("jit", *SCHEDULES)},
        "ideal": 1e3 * one / 2 * (1 + 1 / count),
        **{f"{name}_of_ideal": statistics.median(of_ideal[name]) for name in SCHEDULES},
        "quartiles": [float(q) for q in np.quantile(of_ideal[best], [0.25, 0.75])],
        "speedup": one / rounds.median(best),
        "difference": max(_distance(one[1], wanted) for one in found),
        "messages": messages,
    }


def _of_ideal(rounds: Rounds, name: str, count: int) -> list[float]:
    """Round by round, since other processes slow one round more than another."""
    times = rounds.seconds
    each = zip(times["first"], times["second"], times[name], strict=True)
    return [(a + b) / 4 * (1 + 1 / count) / took for a, b, took in each]


def _road(
    parts: Sequence[rt.Slice], schedule: str, params: Sequence[Any], batch: Any, count: int
) -> Callable[[], Any]:
    step = rt.pipeline([stage] * 2, parts, squared_error, micro_batches=count, schedule=schedule)
    placed = tuple(part.put(tree) for part, tree in zip(parts, params, strict=True))
    inputs, targets = parts[0].put(batch[0]), parts[1].put(batch[1])
    return lambda: jax.block_until_ready(step(placed, inputs, targets))


def _jitted(part: rt.Slice, params: Any, batch: Any) -> Callable[[], Any]:
    call = rt.computation(jax.value_and_grad(whole_loss(remat=False)), part, name="one program")
    given = part.put((params, *batch))
    return lambda: jax.block_until_ready(call(*given))


def _distance(found: Any, wanted: Any) -> float:
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)
