"""The Ray actor that is one host of one island. Importing it imports neither Ray nor JAX."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .ray_channel import Listening
from .ray_claims import Claims
from .ray_mail import Mail
from .ray_versions import versions
from .ray_wire import pack_error

# How many threads each group of methods has: messages wait for each other; news, questions, mail
# and compilation must not wait for them. And the group of each method, which callers say: Ray finds
# a method's own by a name that decorators may change.
GROUPS = {"messages": 1, "news": 1, "mail": 1, "questions": 4}
GROUP_OF = {
    "take_message": "messages",
    "news": "news",
    "deliver": "mail",
    "meet": "mail",
    "want": "mail",
    "lose": "mail",
    "leave": "mail",
}


class IslandActor:
    """Has the process's JAX, and an `IslandHost` that does the work.

    Its methods are called by the controller and by other islands, in threads of their own groups;
    messages, news and mail come by its entrance, too. Before it has a controller it only says what
    it is.
    """

    def __init__(self, name: str, exposed: bool):
        # Ray puts the driver's folder on the path: a checkout's `datasets` would be in front.
        root = str(Path(__file__).resolve().parents[1])
        sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != root]
        self._name, self._claims, self._mail = name, Claims(), Mail(tell)
        self._host: Any = None
        self._devices: list[Any] = []
        self._of = ""  # whose values are here
        self._address = free_address().rpartition(":")[0] if exposed else "127.0.0.1"
        self._messages: queue.SimpleQueue[tuple] = queue.SimpleQueue()
        self._broken: BaseException | None = None
        self._listening = Listening(self._address, self._serve)
        threading.Thread(target=self._work, name=f"byways {name}", daemon=True).start()

    # Beginning.

    def hello(self) -> dict[str, Any]:
        """What this is, where it may be spoken to, and where a host of several may be met."""
        return {
            "pid": os.getpid(),
            "versions": versions(),
            "entrance": tuple(self._listening.entrance),
            "address": free_address(),
        }

    def claim(self, claim: dict[str, Any]) -> dict[str, Any] | None:
        """A controller wants the island; None if it has it now, else who has."""
        taken = self._claims.take(claim)
        if taken is None and self._of not in ("", claim["id"]):
            self._clean()
        return taken

    def begin(self, settings: dict[str, Any], peers: dict[str, Any]) -> list[str]:
        """Starts JAX, unless it is there already.

        Args:
            settings: `devices`, CPU devices; `platform`, None is any; `x64`, numbers of 64 bits;
                `cores` of this host's that the threads keep to, (first, count), None is all;
                `peer`, by which others know the island; `host` of `hosts`, of which the first
                listens at `coordinator` for the others, for `patience` seconds.
            peers: of all islands, for each of their hosts, its actor and its entrance.

        Returns:
            platforms of the island's devices.
        """
        if not self._devices:
            self._devices = started(settings)
        self._settings = settings
        sys.modules["jax"].config.update("jax_enable_x64", settings["x64"])
        self._mail.meet(peers)
        if self._host is None:
            self._open()
        return [device.platform for device in self._devices]

    def leave(self, identifier: str) -> None:
        """Its controller needs it no more."""
        if self._claims.has(identifier):
            self._clean()
            self._claims.leave(identifier)

    def _open(self) -> None:
        post, listen = self._mail.post, self._address
        if self._settings["hosts"] == 1:
            from .ray_island import IslandHost

            self._host = IslandHost(self._name, self._devices, post, listen)
        else:
            from .ray_gang import GangHost

            host, peer = self._settings["host"], self._settings["peer"]
            self._host = GangHost(self._name, self._devices, post, host, peer, listen)
        self._of, self._broken = self._claims.holder, None

    def _clean(self) -> None:
        """Forgets all of a controller's."""
        old, self._host, self._of = self._host, None, ""
        self._mail.close()
        if old is not None:
            old.close()

    # What a controller wants. Of one that counts as gone nothing is taken.

    def take_message(self, of: str, number: int, first: int, ops: list[tuple]) -> None:
        """Whichever way it came: the host looks at their numbers, and not at their order."""
        self._messages.put((of, number, first, ops))

    def _work(self) -> None:
        while True:
            of, *message = self._messages.get()
            host = self._host
            if host is not None and self._claims.has(of):
                try:
                    host.take_message(*message)
                except Exception as error:  # who waits for what it says must not wait for ever
                    self._broken = error
            del message, host  # which may be left by its controller before the next comes

    def want(self, of: str, op: int) -> None:
        host = self._host
        if host is not None and self._claims.has(of):
            host.want(op)

    def news(self, of: str, seen: int, seconds: float, eager: bool) -> tuple:
        self._claims.hear(of)
        if self._broken is not None:
            raise self._broken
        return self._host.news(seen, seconds, eager)

    def _serve(self, purpose: tuple[Any, ...], found: Connection) -> None:
        """Who came in by the entrance."""
        kind, *of = purpose
        while True:
            try:
                given = found.recv()
            except (EOFError, OSError):
                raise
            except Exception as error:  # it is not understood
                self._broken = error
                raise EOFError from None
            if kind == "messages" and len(given) == 1:
                self.want(*of, *given)
            elif kind == "messages":
                self.take_message(*of, *given)
            elif kind == "news":
                try:
                    found.send((self.news(*of, *given), None))
                except (EOFError, OSError):
                    raise
                except Exception as error:
                    found.send((None, pack_error(error)))
            else:
                self.deliver(*given)

    def fetch(self, number: int) -> tuple:
        return self._host.fetch(number)

    def compile(self, *packed: Any) -> tuple:
        return self._host.compile(*packed)

    def held(self) -> int:
        return self._host.held()

    def figures(self) -> dict[str, Any]:
        return self._host.figures()

    def path(self) -> list[str]:
        """Where this process finds modules."""
        return list(sys.path)

    # Other islands.

    def meet(self, peers: dict[str, Any]) -> None:
        """Makes islands known, as `begin`."""
        self._mail.meet(peers)

    def deliver(self, key: str, wires: Any) -> None:
        host = self._host
        if host is not None:
            host.deliver(key, wires)

    def lose(self, name: str, packed: tuple) -> None:
        host = self._host
        if host is not None:
            host.lose(name, packed)
        self._mail.lose(name)


def started(settings: dict[str, Any]) -> list[Any]:
    """Starts this process's JAX; its devices."""
    if settings["cores"] is not None:
        keep_to_cores(*settings["cores"])
    # The size of XLA's pools, which also copy what is sent and received: on as many threads as
    # cores, what another island waits for would go only when nothing is left to compute. More than
    # that take from each other (on one core, eight compute a third slower than two).
    os.environ.setdefault("NPROC", str(cores_here() + 1))
    import jax

    jax.config.update("jax_num_cpu_devices", settings["devices"])
    if settings["platform"] is not None:
        jax.config.update("jax_platforms", settings["platform"])
    if settings["hosts"] > 1:
        join(settings)
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def join(settings: dict[str, Any]) -> None:
    """Makes this process a host of an island of several; waits for the others."""
    import functools

    import jax
    from jax._src import xla_bridge

    where = settings["coordinator"]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        where,
        settings["hosts"],
        settings["host"],
        initialization_timeout=settings["patience"],
        coordinator_bind_address=where if settings["host"] == 0 else None,
    )
    # Else collectives on CPUs listen on whatever address the machine's name has.
    inner: Any = xla_bridge
    made = inner._jax.make_gloo_tcp_collectives
    own = free_address().rpartition(":")[0]
    inner._jax.make_gloo_tcp_collectives = functools.partial(made, hostname=own)


def free_address() -> str:
    """An address of this host, as Ray knows it, and a port that nobody listens at now."""
    import ray  # pyright: ignore[reportMissingImports]

    host = ray.util.get_node_ip_address()
    with socket.create_server((host, 0)) as found:
        return f"{host}:{found.getsockname()[1]}"


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
