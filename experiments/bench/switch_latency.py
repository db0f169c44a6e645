"""How long a small switch on an island takes from call to result: expanded there, and from here.

    python -P -m byways.experiments.bench.switch_latency

A router, a switch of eight branches of which two are awake, and a sum, one call after the other, as
when a decoder makes one token at a time; and the gradient of the same by the branches, until the
value and whose gradients there are is known; and both with the branches over two islands, of which
one is awake on each. At last what another client's small call, on another device of the island, has
of it that the island waits for a slow router's counts. Both ways take turns within a round.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ... import runtime as rt

BRANCHES, ROWS, WIDTH = 8, 8, 64


class _Asked(rt.Branches):
    """Parameters that are asked for when their branches wake, which only the controller does."""

    at_hand = False


def bench_switch(
    system: rt.Runtime, islands: Sequence[str], rounds: int = 200, train: bool = False
) -> dict[str, Any]:
    """Times both ways.

    Args:
        islands: of the branches, in turns; the first has the router, too.
        rounds: calls of each way.
        train: with gradients.

    Returns:
        medians in ms and messages of a call to all islands, by way (`there`, `here`); `rounds`.
    """
    parts = [system.virtual_devices(island).add_slice(1) for island in islands]
    part = parts[0]
    shape = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
    switch = rt.Switch(lambda w, x: jnp.tanh(x @ w), parts, shape, BRANCHES)
    router = rt.computation(lambda x, c: (2 * x, c), part, name="router")
    total = rt.computation(lambda y: y.sum(), part, name="total")

    def layer(x: Any, counts: Any, bank: Any) -> Any:
        rows, counts = router(x, counts)
        return total(switch(counts, rows, bank))

    run = rt.value_and_grad(layer, 2) if train else rt.program(layer, name="layer")

    def call(bank: Any) -> tuple[Any, Any]:
        """The value, and the gradients where they are."""
        found = run(x, counts, bank)
        return (found[0].result(), found[1].array()) if train else (found.result(), None)

    eye = np.eye(WIDTH, dtype=np.float32)
    trees = [parts[b % len(parts)].put(eye * (b + 1)) for b in range(BRANCHES)]
    banks = {"there": rt.Branches(trees), "here": _Asked(trees)}
    x = part.put(np.ones((ROWS, WIDTH), np.float32))
    counts = part.put(np.array([5, 0, 0, 3, 0, 0, 0, 0], np.int32))
    run.compile(x, counts, banks["there"])
    outboxes: list[Any] = [one.devices[0].outbox for one in parts]  # pyright: ignore
    sent = lambda: sum(outbox.messages for outbox in outboxes)  # noqa: E731
    seconds: dict[str, list[float]] = {way: [] for way in banks}
    messages = dict.fromkeys(banks, 0)
    values = {way: call(bank)[0] for way, bank in banks.items()}
    assert values["there"] == values["here"]
    for _ in range(rounds):
        for way, bank in banks.items():
            before, began = sent(), time.perf_counter()
            call(bank)
            seconds[way].append(time.perf_counter() - began)
            messages[way] += sent() - before
    return {
        "ms": {way: 1e3 * statistics.median(found) for way, found in seconds.items()},
        "messages": {way: n / rounds for way, n in messages.items()},
        "rounds": rounds,
    }


def bench_behind(
    system: rt.Runtime, island: str, rounds: int = 50, turns: int = 12
) -> dict[str, Any]:
    """Times a call that is sent right behind a switch whose router is slow.

    Args:
        island: of two devices; the router and the switch have one, the call the other.
        rounds: calls of each way.
        turns: how often the router multiplies matrices of 400 x 400; the call does once.

    Returns:
        medians in ms of the call, by way (`there`, `here`), and `alone`; `rounds`.
    """
    devices = system.virtual_devices(island)
    part, other = devices.add_slice(1), devices.add_slice(1)
    shape = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
    switch = rt.Switch(lambda w, x: jnp.tanh(x @ w), part, shape, BRANCHES)

    def route(x: Any, counts: Any, big: Any) -> Any:
        slow = jax.lax.fori_loop(0, turns, lambda _, h: jnp.tanh(h @ big), big)[0, 0]
        return 2 * x + 0 * slow, counts + (0 * slow).astype(counts.dtype)

    router = rt.computation(route, part, name="router")
    small = rt.computation(lambda big: jnp.tanh(big @ big).sum(), other, name="small")

    def layer(x: Any, counts: Any, big: Any, bank: Any) -> Any:
        rows, counts = router(x, counts, big)
        return switch(counts, rows, bank)

    run = rt.program(layer, name="layer")
    trees = [part.put(np.eye(WIDTH, dtype=np.float32)) for _ in range(BRANCHES)]
    banks = {"there": rt.Branches(trees), "here": _Asked(trees)}
    matrix = np.ones((400, 400), np.float32) / 400
    given = (
        part.put(np.ones((ROWS, WIDTH), np.float32)),
        part.put(np.array([5, 0, 0, 3, 0, 0, 0, 0], np.int32)),
        part.put(matrix),
    )
    elsewhere = other.put(matrix)
    run.compile(*given, banks["there"])
    client = system.client("behind")
    seconds: dict[str, list[float]] = {way: [] for way in (*banks, "alone")}

    def call(way: str) -> None:
        with client:
            began = time.perf_counter()
            small(elsewhere).result()
            seconds[way].append(time.perf_counter() - began)

    for _ in range(rounds + 1):
        for way, bank in banks.items():
            before = run(*given, bank)
            call(way)
            before.result()
        call("alone")
    # The first of each was compiled.
    medians = {way: 1e3 * statistics.median(found[1:]) for way, found in seconds.items()}
    return {"ms": medians, "rounds": rounds}


def main() -> None:
    """Prints a line of JSON for each kind, with the machine's load as it began."""
    load = round(os.getloadavg()[0], 1)
    one, two = ["island0"], ["island0", "island1"]
    kinds = {
        "forward": (one, False),
        "gradients": (one, True),
        "forward over two": (two, False),
        "gradients over two": (two, True),
    }
    with rt.RayRuntime(2, devices=2) as system:
        for kind, (islands, train) in kinds.items():
            found = bench_switch(system, islands, train=train)
            print(json.dumps({"kind": kind, **found, "load": load}))
        found = bench_behind(system, "island0")
        print(json.dumps({"kind": "behind", **found, "load": load}))


if __name__ == "__main__":
    main()
