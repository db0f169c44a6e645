"""What a training step over two islands costs the controller, and what plain Ray's driver pays."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import runtime as rt
from ..errors import RunError
from .islands_actor import Learner, gradients, start, update
from .islands_settings import BenchIslands

Step = Callable[[], None]


def bench_control(system: rt.Runtime, settings: BenchIslands) -> dict[str, Any]:
    """Times steps whose computations take no time, so that what is left is control.

    A step is a gradient on each island, of its own half of a batch that the controller sends, an
    exchange of all gradients, and the same update on both; nothing of the model comes here.

    Args:
        system: of two islands.
        settings: sizes.

    Returns:
        {"rows": [{"way": `islands` (a program) or `ray` (plain actors, arrays through its store),
        medians over rounds of "cpu_ms" (of all of this process's threads, a step), "call_ms" (that
        a call takes when nothing is in flight) and "step_ms" (as the clock has it), "messages" (to
        both islands; None of plain Ray)}]}.

    Raises:
        RunError: the two islands' models differ.
    """
    names = list(system.islands)[:2]
    parts = [system.virtual_devices(name).add_slice(1) for name in names]
    ours = _Islands(parts, settings)
    rows = [_row("islands", ours.step, ours.wait, settings) | {"messages": ours.messages()}]
    ours.check()
    if settings.plain:
        plain = _Plain(settings)
        rows.append(_row("ray", plain.step, plain.wait, settings) | {"messages": None})
    return {"rows": rows}


def _row(way: str, step: Step, wait: Step, settings: BenchIslands) -> dict[str, Any]:
    found: dict[str, list[float]] = {"cpu_ms": [], "call_ms": [], "step_ms": []}
    for number in range(settings.repeats + 2):  # the first two compile, and connect
        wait()
        called = time.perf_counter()
        step()
        call = time.perf_counter() - called
        wait()
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(settings.steps):
            step()
        wait()
        if number >= 2:
            found["step_ms"].append(1e3 * (time.perf_counter() - began) / settings.steps)
            found["cpu_ms"].append(1e3 * (time.process_time() - cpu) / settings.steps)
            found["call_ms"].append(1e3 * call)
    return {"way": way, **{name: statistics.median(values) for name, values in found.items()}}


class _Islands:
    """The step as one program."""

    def __init__(self, parts: list[rt.Slice], settings: BenchIslands):
        first = rt.computation(gradients, parts[0], name="gradients")
        second = rt.computation(gradients, parts[1], name="gradients")
        updates = [rt.computation(update, part, name="update", donate=(0,)) for part in parts]

        @rt.program(name="step")
        def step(params: Any, batches: Any) -> Any:
            mine, theirs = first(params[0], batches[0]), second(params[1], batches[1])
            return [one(p, mine, theirs) for one, p in zip(updates, params, strict=True)]

        self._step, self._parts = step, parts
        self._params: Any = [part.put(start(settings.leaves)) for part in parts]
        self._batches = [np.full((8, 32), n + 1, np.float32) for n in range(2)]

    def step(self) -> None:
        self._params = self._step(self._params, self._batches)

    def wait(self) -> None:
        for one in self._params:
            jax.block_until_ready(one[0])

    def messages(self) -> int:
        """Of one step."""
        boxes: list[Any] = [part.devices[0].outbox for part in self._parts]
        before = sum(box.messages for box in boxes)
        self.step()
        return sum(box.messages for box in boxes) - before

    def check(self) -> None:
        left, right = rt.fetch(self._params)
        if any(not jnp.array_equal(a, b) for a, b in zip(left, right, strict=True)):
            raise RunError("two islands that apply the same updates have different models")


class _Plain:
    """The step as calls of two plain actors."""

    def __init__(self, settings: BenchIslands):
        import ray  # pyright: ignore[reportMissingImports]

        self._ray = ray
        made = ray.remote(num_cpus=0)(Learner)
        self._actors = [made.remote(settings.leaves) for _ in range(2)]
        self._batches = [np.full((8, 32), n + 1, np.float32) for n in range(2)]
        self._last: list[Any] = []

    def step(self) -> None:
        pairs = zip(self._actors, self._batches, strict=True)
        found = [actor.gradients.remote(batch) for actor, batch in pairs]
        self._last = [actor.update.remote(*found) for actor in self._actors]

    def wait(self) -> None:
        self._ray.get(self._last)
