"""`byways bench serving`: tokens a second, and what a decoding step costs besides itself."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import runtime as rt
from ...models import MoeConfig, Palm, PalmConfig, empty_slots, generate, step_slots
from ..errors import RunError
from ..serving import Engine
from .moe import circumstances
from .serving_settings import NAMES, BenchServing, check_serving

Ways = dict[str, Callable[[], Any]]


def bench_serving(settings: BenchServing, only: Sequence[str] = ()) -> dict[str, Any]:
    """Runs both measurements, or the one that is named.

    Returns:
        `throughput`: rows of {"way", "tokens_per_second", "quartiles", "speedup" (over single
        texts), "first_token", "occupancy"}; `step`: rows of {"way", "microseconds" (a step of all
        rows), "quartiles", "added" (to the bare step's), "cpu" (the controller's own, µs)};
        `targets`, of which there are none; `settings`, `device`, `versions`, `load` (of the
        machine, as it began).

    Raises:
        UsageError: settings that cannot be measured.
        RunError: Ray is not installed, not there, or does not start; or a way makes other tokens.
    """
    check_serving(settings, tuple(only))
    load = os.getloadavg()[0]
    config = _config(settings)
    params = jax.jit(Palm(config).init)(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    wanted = [name for name in NAMES if not only or name in only]
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        engines = {"continuous": stack.enter_context(_here(config, params, settings.rows))}
        if settings.islands:
            engines["islands"] = stack.enter_context(_away(config, params, settings))
        if "throughput" in wanted:
            results["throughput"] = _throughput(config, params, engines, settings)
        if "step" in wanted:
            results["step"] = _step(config, params, engines, settings)
    return {**results, "targets": [], **circumstances(settings), "load": load}


def _config(settings: BenchServing) -> PalmConfig:
    sparse = MoeConfig(num_experts=settings.experts, selected=2, batch_priority=False)
    longest = settings.prompt + max(*settings.steps, settings.long + 2)
    return PalmConfig(
        vocab_size=256,
        width=settings.width,
        hidden=4 * settings.width,
        depth=settings.depth,
        heads=4,
        head_size=max(2, settings.width // 2),
        max_length=longest,
        moe=sparse if settings.experts else MoeConfig(placement="none"),
    )


@contextlib.contextmanager
def _here(config: PalmConfig, params: Any, rows: int) -> Iterator[Engine]:
    """Both sides on one device of this process."""
    with rt.Runtime({"here": jax.local_devices()[:1]}) as system:
        part = system.virtual_devices().add_slice(1)
        with Engine(config, params, read=[part], write=[part], rows=rows) as engine:
            engine.compile()
            yield engine


@contextlib.contextmanager
def _away(config: PalmConfig, params: Any, settings: BenchServing) -> Iterator[Engine]:
    """Prompts on one island, tokens on another."""
    try:
        system = rt.RayRuntime(2, address=settings.address)
    except rt.RayMissing as error:
        raise RunError(f"{error}; or measure without: --no-islands") from error
    with system:
        read, write = (system.virtual_devices(name).add_slice(1) for name in system.islands)
        rows = settings.rows
        with Engine(config, params, read=[read], write=[write], rows=rows) as engine:
            engine.compile()
            yield engine


# Tokens a second.


def _throughput(
    config: PalmConfig, params: Any, engines: dict[str, Engine], settings: BenchServing
) -> list[dict[str, Any]]:
    asked = _asked(settings)
    alone = lambda: [  # noqa: E731
        _generated(config, params, [prompt], steps, settings)[0] for prompt, steps in asked
    ]
    ways: Ways = {"single": alone, "static": lambda: _static(config, params, asked, settings)}
    for name, engine in engines.items():
        ways[name] = lambda engine=engine: _served(engine, asked)
    tokens = sum(steps for _, steps in asked)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    expected = alone()
    for number in range(settings.repeats + 1):  # the first compiles
        for name, run in ways.items():
            began = time.perf_counter()
            made = run()
            took = time.perf_counter() - began
            if made != expected:
                raise RunError(f"{name} makes other tokens than single texts have")
            if number:
                seconds[name].append(took)
    rates = {name: [tokens / one for one in found] for name, found in seconds.items()}
    return [
        {
            "way": name,
            "tokens_per_second": statistics.median(found),
            "quartiles": _quartiles(found),
            "speedup": statistics.median(
                mine / single for mine, single in zip(found, rates["single"], strict=True)
            ),
            "first_token": engines[name].statistics().first_token if name in engines else None,
            "occupancy": engines[name].statistics().occupancy if name in engines else None,
        }
        for name, found in rates.items()
    ]


def _asked(settings: BenchServing) -> list[tuple[list[int], int]]:
    """Prompts and how many tokens are wanted of each, in an order that mixes short and long."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(-(-settings.prompt // 2), settings.prompt + 1, settings.requests)
    steps = [settings.steps[n % len(settings.steps)] for n in range(settings.requests)]
    draw.shuffle(steps)
    prompts = [draw.integers(0, 256, length).tolist() for length in lengths]
    return list(zip(prompts, map(int, steps), strict=True))


def _generated(
    config: PalmConfig, params: Any, prompts: list[list[int]], steps: int, settings: BenchServing
) -> list[list[int]]:
    """Of prompts padded to one length, so that each number of steps is compiled once."""
    tokens = np.zeros((len(prompts), settings.prompt), np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)], mask[row, : len(prompt)] = prompt, True
    made = generate(config, params, jnp.asarray(tokens), jnp.asarray(mask), steps=steps)
    return np.asarray(made).tolist()


def _static(
    config: PalmConfig,
    params: Any,
    asked: list[tuple[list[int], int]],
    settings: BenchServing,
) -> list[list[int]]:
    """Batches in the order of the requests, each as long as the longest that there may be."""
    found: list[list[int]] = []
    longest = max(settings.steps)
    for begin in range(0, len(asked), settings.rows):
        part = asked[begin : begin + settings.rows]
        prompts = [prompt for prompt, _ in part]
        prompts += [prompts[0]] * (settings.rows - len(part))
        made = _generated(config, params, prompts, longest, settings)
        found += [row[:steps] for row, (_, steps) in zip(made, part, strict=False)]
    return found


def _served(engine: Engine, asked: list[tuple[list[int], int]]) -> list[list[int]]:
    made = [engine.submit(prompt, steps=steps) for prompt, steps in asked]
    return [generation.result() for generation in made]


# A step.


def _step(
    config: PalmConfig, params: Any, engines: dict[str, Engine], settings: BenchServing
) -> list[dict[str, Any]]:
    ways: dict[str, Callable[[], tuple[float, float]]] = {}
    ways["bare"] = _bare(config, params, settings)
    for name, engine in engines.items():
        ways[name] = lambda engine=engine: _full(engine, settings)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(settings.repeats + 1):
        for name, run in ways.items():
            one = run()
            if number:
                found[name].append(one)
    bare = [wall for wall, _ in found["bare"]]
    return [
        {
            "way": name,
            "microseconds": statistics.median(wall for wall, _ in rounds),
            "quartiles": _quartiles([wall for wall, _ in rounds]),
            "added": statistics.median(
                wall - plain for (wall, _), plain in zip(rounds, bare, strict=True)
            ),
            "cpu": statistics.median(cpu for _, cpu in rounds),
        }
        for name, rounds in found.items()
    ]


def _bare(
    config: PalmConfig, params: Any, settings: BenchServing
) -> Callable[[], tuple[float, float]]:
    """The jitted step again and again, nothing read but at the end."""
    step = jax.jit(lambda p, slots: step_slots(config, p, slots), donate_argnums=1)

    @jax.jit
    def begin() -> Any:
        slots = empty_slots(config, settings.rows, config.max_length)
        return slots._replace(counters=slots.counters.at[:, 3].set(settings.long + 1))

    def run() -> tuple[float, float]:
        slots, _ = step(params, begin())
        jax.block_until_ready(slots)
        began, cpu = time.perf_counter(), time.thread_time()
        for _ in range(settings.long):
            slots, told = step(params, slots)
        told.block_until_ready()
        took, cpu = time.perf_counter() - began, time.thread_time() - cpu
        return 1e6 * took / settings.long, 1e6 * cpu / settings.long

    return run


def _full(engine: Engine, settings: BenchServing) -> tuple[float, float]:
    """An engine with every row in use, from when the last text has begun until all end."""
    cpu = engine.thread_seconds
    made = [engine.submit([n % 256], steps=settings.long + 2) for n in range(settings.rows)]
    for generation in made:
        next(generation.stream())
    began, done = time.perf_counter(), min(generation.made for generation in made)
    for generation in made:
        generation.result()
    ended = max(generation.ended or 0.0 for generation in made)
    took = (ended - began) / (settings.long + 2 - done)
    return 1e6 * took, 1e6 * (engine.thread_seconds - cpu) / settings.long


def _quartiles(found: list[float]) -> list[float]:
    return [float(q) for q in np.quantile(found, [0.25, 0.75])]
