"""The shortest computation at which the runtime keeps up with plain JAX (Figure 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from ... import runtime as rt
from .rounds import time_rounds
from .runtime_settings import BenchRuntime
from .runtime_work import matrix, products

# Width of the matrices: small, so that the shortest loop is shorter than any dispatch.
WIDTH = 64
CALLS = 32
ENOUGH = 0.9


def bench_parity(settings: BenchRuntime) -> dict[str, Any]:
    """Throughput over plain `jit`'s, calls without waiting, for loops of every length.

    Returns:
        {"rows": [{"length", "milliseconds" (a call of plain JAX), "calls", "chained": throughput of
        one-node programs, and of one program of 32 nodes, over plain JAX's}], "parity_calls",
        "parity_chained": milliseconds from which on every length reaches 0.9; None if none does}.
    """
    part = rt.Runtime().virtual_devices().add_slice(1)
    x = matrix(min(WIDTH, settings.width), part.devices[0])
    rows = [_row(length, part, x, settings.repeats) for length in settings.lengths]
    return {
        "rows": rows,
        "parity_calls": _parity(rows, "calls"),
        "parity_chained": _parity(rows, "chained"),
    }


def _row(length: int, part: Any, x: jax.Array, repeats: int) -> dict[str, Any]:
    loop = products(length)
    node = rt.computation(loop, part, name="loop")

    @rt.program
    def chained(y):
        for _ in range(CALLS):
            y = node(y)
        return y

    def calls(call: Callable) -> Callable[[], Any]:
        def road():
            y = x
            for _ in range(CALLS):
                y = call(y)
            return jax.block_until_ready(y)

        return road

    roads = {
        "jax": calls(jax.jit(loop)),
        "calls": calls(node),
        "chained": lambda: jax.block_until_ready(chained(x)),
    }
    rounds = time_rounds(roads, repeats)
    return {
        "length": length,
        "milliseconds": 1e3 * rounds.median("jax") / CALLS,
        "calls": rounds.ratio("jax", "calls"),
        "chained": rounds.ratio("jax", "chained"),
    }


def _parity(rows: list[dict[str, Any]], road: str) -> float | None:
    """Milliseconds of the first row from which on all of them are fast enough."""
    found = None
    for row in reversed(rows):
        if row[road] < ENOUGH:
            break
        found = row["milliseconds"]
    return found
