"""A runtime whose islands are other processes, started, placed and watched by Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import SliceError
from .ray_arrays import RayArray
from .ray_backend import RayBackend
from .ray_cluster import RayIslands
from .ray_devices import RayDevice
from .ray_hosts import Hosts
from .resources import Island
from .scheduler import GangScheduler, Turn
from .system import Runtime


class RayScheduler(GangScheduler):
    """What turns of a run enqueue goes to the island in as few messages as may be."""

    def __init__(self, outbox: Any, *args: Any):
        super().__init__(*args)
        self.outbox = outbox

    def _leave(self, turn: Turn, nested: bool) -> None:
        # Watching what makes an array, and not the array, lets the island forget it.
        turn.nodes = deque((n, a.op if type(a) is RayArray else a) for n, a in turn.nodes)
        self.outbox.hear_all(turn.run.system.recorder is not None)
        self.outbox.flush_due()
        super()._leave(turn, nested)

    def post(self) -> None:
        self.outbox.flush_all()


class RayRuntime(Runtime):
    """A `Runtime` over islands in other processes. Programs are written as for any other.

        with rt.RayRuntime(2) as system:            # two processes on this machine
            ...
        rt.RayRuntime(2, address="10.0.0.1:6379")   # of a cluster that runs already

    Tracing, lowering, order, windows and accounts are the controller's own; an island gets one
    message for all that a short program does on it, and says when what it was told is computed.
    Results come when they are asked for (`.result()` is an array of this process); a future that is
    an argument stays where it is.

    Attributes:
        hosts: the islands' processes.
    """

    def __init__(
        self,
        islands: int | Mapping[str, Sequence[RayDevice]] = 2,
        *,
        devices: int = 1,
        address: str | None = None,
        hosts: Hosts | None = None,
        silence: float = 10.0,
        hosts_per_island: int = 1,
        **options: Any,
    ):
        """Args:
            islands: how many to start, or devices of `hosts` by the island's name.
            devices: of each host of each.
            address: of a running Ray; by default one is started on this machine, for itself alone.
            hosts: islands that are there already; they are left as they are when this closes.
            silence, hosts_per_island: as of `RayIslands`; `hosts` have their own.
            options: as of a `Runtime`.

        Raises:
            RayMissing: Ray is not installed, not there, or has too little for so many islands.
        """
        self._own = hosts is None
        if hosts is None:
            count = islands if isinstance(islands, int) else len(islands)
            hosts = RayIslands(
                count,
                devices=devices,
                address=address,
                silence=silence,
                hosts_per_island=hosts_per_island,
            )
        self.hosts = hosts
        named = hosts.devices if isinstance(islands, int) else islands
        self._backend = RayBackend()
        self._outboxes: dict[str, Any] = {}  # by island, of when it last began
        self._losing: dict[tuple[Any, str], bool] = {}  # outboxes and islands, not told of yet
        try:
            super().__init__(named, backend=self._backend, **options)
        except BaseException:
            if self._own:
                hosts.close()
            raise
        hosts.used_by(self)

    def restart_island(self, name: str) -> None:
        """As of a `Runtime`, by a new process in the place of the old one, which is ended if it is
        there. Waits for it as long as the hosts' patience says.

        Raises:
            SliceError: no such island, or all of its devices were removed.
            IslandLost: the process does not come, and why; the island stays lost.
        """
        island = self.resources.island(name)
        if not island.devices:
            raise SliceError(
                f"island {name!r} has no devices, so nothing could stand on it: add_device first"
            )
        self.hosts.restart(self._outbox(island).name)

    def add_island(self, name: str, devices: int | Sequence[RayDevice] = 1) -> None:
        """As of a `Runtime`.

        Args:
            name: not yet taken.
            devices: CPU devices of a process that is started for it; or devices of `hosts`.

        Raises:
            SliceError: the name is taken.
            RayMissing: there is no room for it, or it does not come.
        """
        if isinstance(devices, int):
            if name not in self.islands and name not in self.hosts.devices:
                self.hosts.add(name, devices=devices)
            devices = self.hosts.devices.get(name, [])
        super().add_island(name, devices)

    def remove_island(self, name: str) -> None:
        """As of a `Runtime`; ends the process, if it was started for this runtime."""
        super().remove_island(name)
        self._outboxes.pop(name, None)
        if self._own:
            self.hosts.remove(name)

    def outbox_losing(self, outbox: Any) -> None:
        """One of the processes is gone; who waits for it is not told yet."""
        for name in self._islands_of(outbox):
            if self.resources.lose(name):
                self._losing[outbox, name] = True

    def outbox_lost(self, outbox: Any) -> None:
        """One of the processes is gone, and that is known."""
        for whose, name in list(self._losing):
            if whose is outbox and self._losing.pop((whose, name), False):  # by one thread alone
                self._gone(name)

    def outbox_back(self, old: Any, devices: Sequence[RayDevice]) -> None:
        """A process is there in the place of one that is gone. An island without devices stays
        lost."""
        for name in self._islands_of(old):
            self.lose_island(name)
            before: Any = self.islands[name].devices
            if before:
                self._restore(name, [devices[device.index] for device in before])
        self._backend.forget(old)

    def look_at(self, outbox: Any) -> None:
        """One of the processes may have gone before its islands were this runtime's."""
        if outbox.is_lost():
            self.outbox_losing(outbox)
            self.outbox_lost(outbox)

    def _anew(self, island: Island) -> None:
        super()._anew(island)
        self.look_at(self._outbox(island))

    def _islands_of(self, outbox: Any) -> list[str]:
        found = list(self.islands.items())
        return [name for name, island in found if self._outbox(island) is outbox]

    def _outbox(self, island: Island) -> Any:
        """An island's; all of its devices may have been removed."""
        device: Any = next(iter(island.devices), None)
        return self._outboxes.get(island.name) if device is None else device.outbox

    def _scheduler(self, island: Island) -> RayScheduler:
        outbox = self._outboxes[island.name] = self._outbox(island)
        return RayScheduler(outbox, island, self._window, self._fair)

    def close(self) -> None:
        """As of a `Runtime`; ends the processes that were started for it."""
        try:
            super().close()
        finally:
            if self._own:
                self.hosts.close()
