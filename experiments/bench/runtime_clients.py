"""Many clients at once: what they do together (Figure 8), and each one's share (Figure 9)."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ... import runtime as rt
from .runtime_settings import BenchRuntime
from .runtime_work import length_of, matrix, products

# Programs that a client sends before it waits for its oldest.
AHEAD = 8
WIDTH = 64
TURNS = 5


def bench_clients(settings: BenchRuntime) -> dict[str, Any]:
    """Programs a second of n client threads together, beside threads that call plain `jit`.

    Returns:
        {"program": ms, "rows": [{"clients", "runtime", "jax": programs a second, "of_one": the
        runtime's over its one client's, "of_jax": over plain JAX with as many threads}]}, medians
        over turns.
    """
    system, part, x, loop = _work(settings)
    node = rt.computation(loop, part, name="program")
    plain = jax.jit(loop)
    jax.block_until_ready([plain(x), node(x)])
    names = sorted({1, *settings.clients})
    speeds: dict[str, dict[int, list[float]]] = {
        side: {count: [] for count in names} for side in ("runtime", "jax")
    }
    each = settings.seconds / TURNS
    for _ in range(TURNS):
        # All of them in turns, so that a busy moment falls on all.
        for count in names:
            ours = _race(_senders(system, (1,) * count, lambda: node(x)), each)
            theirs = _race([_Sender(lambda: plain(x))] * count, each)
            speeds["runtime"][count].append(sum(ours) / each)
            speeds["jax"][count].append(sum(theirs) / each)

    def over(found: list[float], other: list[float]) -> float:
        return statistics.median(a / max(b, 1.0) for a, b in zip(found, other, strict=True))

    ours, theirs = speeds["runtime"], speeds["jax"]
    rows = [
        {
            "clients": count,
            "runtime": statistics.median(ours[count]),
            "jax": statistics.median(theirs[count]),
            "of_one": over(ours[count], ours[1]),
            "of_jax": over(ours[count], theirs[count]),
        }
        for count in names
    ]
    return {"program": settings.program, "rows": rows}


def bench_shares(settings: BenchRuntime) -> dict[str, Any]:
    """What part of the device each of several clients with weights gets, all asking for more.

    Returns:
        {"rows": [{"weights", "shares": of the programs that were done, "error": the largest
        relative distance of a share from its weight's}]}.
    """
    system, part, x, loop = _work(settings)
    node = rt.computation(loop, part, name="program")
    jax.block_until_ready(node(x))
    rows = []
    for weights in settings.weights:
        done = _race(_senders(system, weights, lambda: node(x)), settings.seconds)
        total = max(1, sum(done))
        shares = [count / total for count in done]
        wanted = [weight / sum(weights) for weight in weights]
        error = max(abs(a / b - 1) for a, b in zip(shares, wanted, strict=True))
        rows.append({"weights": list(weights), "shares": shares, "error": error})
    return {"rows": rows}


def _work(settings: BenchRuntime) -> tuple[Any, Any, jax.Array, Callable]:
    system = rt.Runtime()
    part = system.virtual_devices().add_slice(1)
    width = min(WIDTH, settings.width)
    length = length_of(settings.program, width, part.devices[0])
    return system, part, matrix(width, part.devices[0]), products(length)


class _Sender:
    """Sends one program after another; `enter` makes the thread somebody's."""

    def __init__(self, send: Callable[[], Any], client: Any = None):
        self.send, self.client = send, client

    def run(self, start: threading.Barrier, stop: threading.Event) -> int:
        """How many were done between start and stop."""
        if self.client is None:
            return self._count(start, stop)
        with self.client:
            return self._count(start, stop)

    def _count(self, start: threading.Barrier, stop: threading.Event) -> int:
        ahead: deque[Any] = deque()
        done = 0
        start.wait()
        while not stop.is_set():
            ahead.append(self.send())
            if len(ahead) == AHEAD:
                jax.block_until_ready(ahead.popleft())
                done += 1
        jax.block_until_ready(list(ahead))
        return done


def _senders(system: Any, weights: Sequence[int], send: Callable[[], Any]) -> list[_Sender]:
    clients = [
        system.client(f"client {n} of {len(weights)}", weight=float(weight))
        for n, weight in enumerate(weights)
    ]
    return [_Sender(send, client) for client in clients]


def _race(senders: Sequence[_Sender], seconds: float) -> list[int]:
    """Runs all in threads for so long; what each has done. Their clients leave afterwards."""
    start, stop = threading.Barrier(len(senders) + 1), threading.Event()
    done = [0] * len(senders)
    errors: list[BaseException] = []

    def run(n: int) -> None:
        try:
            done[n] = senders[n].run(start, stop)
        except BaseException as error:
            errors.append(error)
            start.abort()
            stop.set()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(senders))]
    for thread in threads:
        thread.start()
    try:
        start.wait()
    except threading.BrokenBarrierError:
        stop.set()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    for sender in senders:
        if sender.client is not None:
            sender.client.close()
    if errors:
        raise errors[0]
    return done
