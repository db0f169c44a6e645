"""The runtime of this process: islands, their schedulers, the store, and who asks for work."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from .backend import LOCAL, Backend
from .client import Client
from .devices import Device
from .faults import tell_all
from .resources import Island, ResourceManager, Slice, VirtualDeviceSet
from .scheduler import GangScheduler
from .store import Store
from .watchdog import Watchdog


class Runtime:
    """A single controller over the devices of this process.

    Its programs are enqueued by the threads that call them; there is no worker. Two runtimes over
    the same devices know nothing of each other's order, so collectives belong in one.

    Attributes:
        resources: islands, slices, and the mapping between them.
        store: what is held, where and for whom.
        schedulers: of each island, by name.
        clients: by name.
        default: the client of threads that have entered none.
        patience: seconds that any wait may take; None is no limit.
        checks: every node's outputs are looked at for NaNs and infinities, one by one.
        sequential: wait for a node's outputs before the next is enqueued; to compare.
        recorder: where runs tell what they send; None is nowhere.
    """

    def __init__(
        self,
        islands: Mapping[str, Sequence[Device]] | None = None,
        *,
        memory_budget: int | None = None,
        window: int = 16,
        fair: bool = True,
        patience: float | None = None,
        checks: bool = False,
        sequential: bool = False,
        watchdog: float | None = None,
        backend: Backend = LOCAL,
    ):
        """Args:
            islands: devices by the island's name; None is one, `local`, of all local devices.
            memory_budget: bytes of each island, over all of its devices; None is no limit.
            window: nodes on several devices in flight on an island; from 64 on the CPU hangs.
            fair: weighted fair sharing between clients; else first come, first served.
            patience: seconds; see above.
            checks: see above.
            sequential: see above.
            watchdog: seconds without any progress, after which a warning says what is in flight.
            backend: what the devices are; by default those of this process.

        Raises:
            SliceError: no devices, or one in two islands.
            ValueError: a window below 2, or a limit that is not above 0.
        """
        if window < 2:
            raise ValueError(f"window={window}: it takes 2 or more, and 64 hang the CPU back end")
        limits = {"memory_budget": memory_budget, "patience": patience, "watchdog": watchdog}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}={limit}: it must be above 0, or None for no limit")
        if islands is None:
            islands = {"local": jax.local_devices()}
        self.resources = ResourceManager(islands, backend)
        self.resources.system = self
        self.store = Store(memory_budget, patience if patience is not None else 60.0)
        self._window, self._fair = window, fair
        self.schedulers = {
            name: self._scheduler(island) for name, island in self.resources.islands.items()
        }
        self.clients: dict[str, Client] = {}
        self.default = Client(self, "default")
        self.patience, self.checks, self.sequential = patience, checks, sequential
        self.recorder: Any = None
        self._numbers = itertools.count(1)
        self._to_tell: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self._watchdog = None if watchdog is None else Watchdog(self, watchdog)

    # Resources.

    @property
    def islands(self) -> dict[str, Island]:
        """By name."""
        return self.resources.islands

    def virtual_devices(self, island: str | None = None) -> VirtualDeviceSet:
        """A set to add slices to, on a named island or on the least crowded.

        Raises:
            SliceError: no such island.
        """
        return VirtualDeviceSet(self.resources, self.resources.island(island))

    def add_device(self, island: str, device: Device) -> None:
        """Adds a device to an island; slices that were left without devices stand on it.

        Raises:
            SliceError: it belongs to an island already.
        """
        self.resources.add_device(island, device)

    def remove_device(self, island: str, device: Device) -> list[Slice]:
        """Takes a device away, when all programs that were called have been sent and have ended.

        Returns:
            the slices that moved; programs on them are lowered again when next called.
        """
        self.resources.island(island)
        self._finish()
        return self.resources.remove_device(island, device)

    def lose_island(self, name: str) -> None:
        """As if the island had died: what was on it and all that depends on it fails; the rest goes
        on. An island that is lost already is left as it is.

        Raises:
            SliceError: no such island.
        """
        if self.resources.lose(name):
            self._gone(name)

    def restart_island(self, name: str) -> None:
        """A lost island is there again, its slices stand on it as they stood, and programs are
        lowered again when next called. What was on it stays lost.

        Islands that are processes get a new one, which is waited for; here, where an island is only
        lost by word, its devices are given back. An island that is not lost is lost first.

        Raises:
            SliceError: no such island.
        """
        self.lose_island(name)
        self._restore(name, None)

    def add_island(self, name: str, devices: Any) -> None:
        """One island more.

        Args:
            name: not yet taken.
            devices: that no other island has.

        Raises:
            SliceError: the name is taken, or a device is another island's.
        """
        island = self.resources.add(name, devices)
        self._anew(island)

    def remove_island(self, name: str) -> None:
        """Takes an island away, when all programs that were called have been sent and have ended.
        Its slices, and what is on it, are lost then.

        Raises:
            SliceError: no such island, or no other.
        """
        if len(self.islands) > 1:
            self.resources.island(name)
            self._finish()
        self.resources.remove(name)
        self._lose_what_was_there()
        del self.schedulers[name]

    def on_lost(self, tell: Callable[[str], None]) -> Callable[[], None]:
        """Has a function called with the name of every island that is lost from now on.

        Args:
            tell: called in any thread, when what was on the island has failed; it must be quick,
                and may not wait for results.

        Returns:
            what takes it off again.
        """
        self._to_tell.append(tell)
        return lambda: self._to_tell.remove(tell) if tell in self._to_tell else None

    def _scheduler(self, island: Island) -> GangScheduler:
        return GangScheduler(island, self._window, self._fair)

    def _restore(self, name: str, devices: Sequence[Device] | None) -> None:
        """A lost island with these devices, or its old ones."""
        self.resources.restore(name, devices)
        self._anew(self.islands[name])

    def _anew(self, island: Island) -> None:
        """Nothing is in flight on an island, and no client has had a share of it."""
        for client in self.everyone():
            client.finish.pop(island.name, None)
        self.schedulers[island.name] = self._scheduler(island)

    def _finish(self) -> None:
        """Waits until all that was called has been sent and has ended."""
        for client in self.everyone():
            for run in list(client.runs):
                run.finish()
        self.drain()

    def _gone(self, name: str) -> None:
        """An island was lost just now."""
        self._lose_what_was_there()
        tell_all(self._to_tell, name)

    def _lose_what_was_there(self) -> None:
        for client in self.everyone():
            for run in list(client.runs):
                run.lose()
            for ref in list(client.values.values()):
                value = ref()
                if value is not None:
                    value.lose()

    # Clients.

    def client(self, name: str, *, weight: float = 1.0, priority: int = 0) -> Client:
        """A new client; enter it (`with client:`) to call programs in its name.

        Args:
            name: not yet taken.
            weight: of its share of each island that others want too.
            priority: higher goes first, whatever the shares.

        Raises:
            ValueError: the name is taken, or the weight is not above 0.
        """
        with self._lock:
            if name in self.clients or name == self.default.name:
                raise ValueError(f"there is a client {name!r} already: take another name")
            client = self.clients[name] = Client(self, name, weight, priority)
        return client

    # All of it.

    def poll(self) -> None:
        """Sends what has become possible; never waits for work."""
        for client in self.everyone():
            client.advance_others()

    def settle(self) -> None:
        """Forgets what has ended."""
        for scheduler in list(self.schedulers.values()):
            scheduler.settle()

    def drain(self) -> None:
        """Waits for all that is in flight."""
        for scheduler in list(self.schedulers.values()):
            scheduler.drain()

    def close(self) -> None:
        """All clients leave; nothing of theirs is held any more. May be called twice."""
        for client in self.everyone():
            client.close()
        self.drain()
        if self._watchdog is not None:
            self._watchdog.stop()

    def everyone(self) -> list[Client]:
        """All clients, of all threads."""
        return [*list(self.clients.values()), self.default]

    def next_number(self) -> int:
        """Of a run."""
        return next(self._numbers)

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        said = ", ".join(f"{name}: {len(i.devices)}" for name, i in self.islands.items())
        return f"Runtime({said})"


@functools.cache
def default_runtime() -> Runtime:
    """The runtime over all local devices, made when first asked for."""
    return Runtime()
