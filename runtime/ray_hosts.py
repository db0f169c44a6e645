"""The processes that islands are: lost, started again, added, ended; and who is told of it.

How a process is started is a subclass's matter: `ray_cluster` asks Ray.
"""

from __future__ import annotations

import abc
import dataclasses
import itertools
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .errors import IslandLost, RuntimeFault, SliceError
from .faults import tell_all
from .ray_devices import RayDevice
from .ray_outbox import Line, Outbox
from .ray_wire import pack_error

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Started:
    """A process that has answered.

    Attributes:
        line: the way to it.
        pids: numbers of its processes, each on its host.
        platforms: `cpu`, `gpu`, …, of each of its devices; each host has as many.
    """

    line: Line
    pids: tuple[int, ...]
    platforms: tuple[str, ...]


class Hosts(abc.ABC):
    """Islands by name, each a process at a time.

    Attributes:
        devices: of each island, by its name.
        outboxes: what each is told by.
        pids: of their processes, each island's first.
        all_pids: of each island's hosts.
    """

    def __init__(self, patience: float, hosts_per_island: int = 1):
        self._patience, self._hosts = patience, hosts_per_island
        self.devices: dict[str, list[RayDevice]] = {}
        self.outboxes: dict[str, Outbox] = {}
        self.pids: dict[str, int] = {}
        self.all_pids: dict[str, tuple[int, ...]] = {}
        self._runtimes: weakref.WeakSet[Any] = weakref.WeakSet()
        self._to_tell: list[Callable[[str], None]] = []
        self._lives: Counter[str] = Counter()
        self._changing = threading.RLock()
        self._closed = False

    # What a subclass does.

    @abc.abstractmethod
    def _start(self, peers: dict[str, str], devices: int, end: float) -> dict[str, Started]:
        """Starts processes; all know each other when this returns, and whoever was there before.

        Args:
            peers: by the island's name what the process is known by.
            devices: of each host.
            end: on the monotonic clock.

        Raises:
            RuntimeFault: they do not come in time; then none of them is left.
        """

    @abc.abstractmethod
    def _end(self, peer: str) -> None:
        """Ends a process, if it is there; returns at once."""

    @abc.abstractmethod
    def _say_lost(self, peer: str, packed: tuple) -> None:
        """Tells all other processes, without waiting for them."""

    @abc.abstractmethod
    def _give_back(self, name: str) -> None:
        """The island will have no process any more."""

    # Islands that come and go.

    def restart(self, name: str, *, patience: float | None = None) -> None:
        """A new process in the place of an island's that is lost, and waits for it; one that is
        there is ended first.

        Runtimes have the island back: their slices stand on its devices, and programs are lowered
        again when next called. What was on the old one stays lost.

        Args:
            patience: seconds, in place of the usual.

        Raises:
            SliceError: no such island.
            IslandLost: the process does not come, and why. The island is left as it was: lost.
        """
        with self._changing:
            self._check_open()
            old = self._outbox(name)
            old.lose(IslandLost(f"island {name!r} is lost: it is started again"))
            self._end(old.peer)
            old.join()
            began = time.monotonic()
            try:
                self._begin([name], len(self.devices[name]) // self._hosts, patience)
            except RuntimeFault as error:
                raise IslandLost(
                    f"island {name!r} does not start again, after {time.monotonic() - began:.1f} "
                    f"s: {error}"
                ) from error
            for system in list(self._runtimes):
                system.outbox_back(old, self.devices[name])

    def add(self, name: str | None = None, *, devices: int = 1) -> str:
        """A process more, for an island more; waits for it.

        Args:
            name: not yet taken; None makes one up.
            devices: of each of its hosts.

        Returns:
            the name.

        Raises:
            SliceError: the name is taken.
            RayMissing: there is no room for it, or it does not come.
        """
        with self._changing:
            self._check_open()
            if name is None:
                name = next(n for n in map("island{}".format, itertools.count()) if self._free(n))
            if not self._free(name):
                raise SliceError(f"there is an island {name!r}: take another name, or restart it")
            if devices < 1:
                raise ValueError(f"devices={devices}: an island has one or more")
            self._begin([name], devices, None)
        return name

    def remove(self, name: str) -> None:
        """Ends an island's process for good; a runtime that has the island loses it.

        Raises:
            SliceError: no such island.
        """
        with self._changing:
            outbox = self._outbox(name)
            outbox.lose(IslandLost(f"island {name!r} is lost: it was removed"))
            self._end(outbox.peer)
            outbox.join()
            self._give_back(name)
            for book in (self.outboxes, self.devices, self.pids, self.all_pids):
                del book[name]

    def on_lost(self, tell: Callable[[str], None]) -> Callable[[], None]:
        """Has a function called with the name of every island whose process is lost from now on.

        Args:
            tell: called in any thread, when runtimes know; it must be quick.

        Returns:
            what takes it off again.
        """
        self._to_tell.append(tell)
        return lambda: self._to_tell.remove(tell) if tell in self._to_tell else None

    def used_by(self, system: Any) -> None:
        """A runtime that is told when an island is lost, and when it is back."""
        self._runtimes.add(system)
        for outbox in list(self.outboxes.values()):
            system.look_at(outbox)

    def held(self) -> dict[str, int]:
        """How many arrays each island has now."""
        return {
            name: outbox.ask("held")
            for name, outbox in self.outboxes.items()
            if outbox.lost is None
        }

    def close(self) -> None:
        """Ends the processes. May be called twice."""
        if self._closed:
            return
        self._closed = True  # what is being started gives up
        for outbox in list(self.outboxes.values()):
            outbox.stop()
            self._end(outbox.peer)
        with self._changing:
            for name, outbox in self.outboxes.items():
                outbox.lose(IslandLost(f"island {name!r} was closed"))
                outbox.join()
            for name in self.outboxes:
                self._give_back(name)

    # Books.

    def _begin(self, names: Sequence[str], devices: int, patience: float | None) -> None:
        """Processes for these islands, instead of what they had."""
        limit = self._patience if patience is None else patience
        peers = {}
        for name in names:
            self._lives[name] += 1
            lives = self._lives[name]
            peers[name] = name if lives == 1 else f"{name}#{lives}"
        started = self._start(peers, devices, time.monotonic() + limit)
        for name, found in started.items():
            outbox = Outbox(name, found.line, self._lost, peers[name], self._losing)
            outbox.hosts = len(found.pids)
            each = len(found.platforms) // outbox.hosts
            self.outboxes[name], self.pids[name] = outbox, found.pids[0]
            self.all_pids[name] = found.pids
            self.devices[name] = [
                RayDevice(outbox, n, next(_numbers), platform, n // each)
                for n, platform in enumerate(found.platforms)
            ]

    def _losing(self, outbox: Outbox) -> None:
        """Whoever is told that a result is lost finds the island lost."""
        for system in list(self._runtimes):
            system.outbox_losing(outbox)

    def _lost(self, outbox: Outbox) -> None:
        """Tells the other islands, the runtimes, and whoever wants to know."""
        self._say_lost(outbox.peer, pack_error(outbox.lost or IslandLost(outbox.name)))
        self._end(outbox.peer)  # it may be there and silent
        for system in list(self._runtimes):
            system.outbox_lost(outbox)
        tell_all(self._to_tell, outbox.name)

    def _outbox(self, name: str) -> Outbox:
        if name not in self.outboxes:
            raise SliceError(f"no island {name!r}: there are {sorted(self.outboxes)}")
        return self.outboxes[name]

    def _free(self, name: str) -> bool:
        return name not in self.outboxes

    def _check_open(self) -> None:
        if self._closed:
            raise IslandLost(f"{self!r} was closed")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        have = ", ".join(f"{name}: {len(found)}" for name, found in self.devices.items())
        return f"{type(self).__name__}({have})"
