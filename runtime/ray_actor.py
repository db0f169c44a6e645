"""The Ray actor that is one host of one island. Importing it imports neither Ray nor JAX."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

# How many threads each group of methods has: messages wait for each other; news, questions, mail
# and compilation must not wait for them. And the group of each method, which callers say: Ray finds
# a method's own by a name that decorators may change.
GROUPS = {"messages": 1, "news": 1, "mail": 1, "questions": 4}
GROUP_OF = {
    "take_message": "messages",
    "news": "news",
    "deliver": "mail",
    "meet": "mail",
    "lose": "mail",
}
# The least that XLA's pools have. They also copy what is sent and received: on as many threads as
# cores, what another island waits for would go only when nothing is left to compute.
THREADS = 8


class IslandActor:
    """Has the process's JAX, and an `IslandHost` that does the work.

    Its methods are called by the controller and by other islands, in threads of their own groups.
    """

    def __init__(self, name: str, devices: int, cores: tuple[int, int] | None = None):
        """With so many CPU devices; of other hardware, with what the process has.

        Args:
            cores: (first, count) of this host's that its threads keep to; None is all.
        """
        if cores is not None:
            keep_to_cores(*cores)
        os.environ.setdefault("NPROC", str(max(cores_here(), THREADS)))
        # Ray puts the driver's folder on the path: a checkout's `datasets` would be in front.
        root = str(Path(__file__).resolve().parents[1])
        sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != root]
        import jax

        jax.config.update("jax_num_cpu_devices", devices)
        from .ray_island import IslandHost

        self._peers: dict[str, Any] = {}
        self._host = IslandHost(name, jax.local_devices(), self._post)

    def hello(self, peers: dict[str, Any]) -> dict[str, Any]:
        """Makes the other islands known; tells of this one."""
        self.meet(peers)
        kinds = [device.platform for device in self._host.devices]
        return {"pid": os.getpid(), "devices": kinds}

    def meet(self, peers: dict[str, Any]) -> None:
        """Makes islands known that were not there before."""
        self._peers.update(peers)

    def take_message(self, number: int, first: int, ops: list[tuple]) -> None:
        self._host.take_message(number, first, ops)

    def news(self, seen: int, seconds: float) -> tuple:
        return self._host.news(seen, seconds)

    def deliver(self, key: str, wires: Any) -> None:
        self._host.deliver(key, wires)

    def lose(self, name: str, packed: tuple) -> None:
        self._host.lose(name, packed)
        self._peers.pop(name, None)

    def fetch(self, number: int) -> tuple:
        return self._host.fetch(number)

    def compile(self, *packed: Any) -> tuple:
        return self._host.compile(*packed)

    def path(self) -> list[str]:
        """Where this process finds modules."""
        return list(sys.path)

    def held(self) -> int:
        return self._host.held()

    def _post(self, to: str, key: str, wires: Any) -> None:
        peer = self._peers.get(to)
        if peer is not None:  # else it is gone
            tell(peer, "deliver")(key, wires)


def cores_here() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def keep_to_cores(first: int, count: int) -> None:
    """Binds this process's threads, and so the size of XLA's pool, to some of its cores.

    Args:
        first: counted from the first core that the process may use, round and round.
        count: at most as many as it may use.

    Raises:
        ValueError: there are fewer, or the system binds no threads.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("cores= binds threads to cores, which this system cannot: leave it out")
    have = sorted(os.sched_getaffinity(0))
    if count > len(have):
        raise ValueError(f"cores={count}, and the island's host gives it {len(have)}: ask for less")
    mine = {have[(first + n) % len(have)] for n in range(count)}
    # Ray's threads, too: those that run an actor's methods are there before it is.
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # it ended
            os.sched_setaffinity(int(thread), mine)


def tell(actor: Any, what: str) -> Any:
    """A method of an actor that gives nothing back, to be called without waiting."""
    return getattr(actor, what).options(num_returns=0, concurrency_group=GROUP_OF[what]).remote


def ask(actor: Any, what: str) -> Any:
    """A method of an actor that answers by a reference."""
    group = GROUP_OF.get(what, "questions")
    return getattr(actor, what).options(concurrency_group=group).remote
