"""A runtime whose islands are other processes, started, placed and watched by Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from .ray_arrays import RayArray
from .ray_backend import RayBackend
from .ray_cluster import RayIslands
from .ray_devices import RayDevice
from .scheduler import GangScheduler, Turn
from .system import Runtime


class RayScheduler(GangScheduler):
    """What a turn enqueued goes to the island in one message when the turn ends."""

    def __init__(self, outbox: Any, *args: Any):
        super().__init__(*args)
        self.outbox = outbox

    def _leave(self, turn: Turn, nested: bool) -> None:
        # Watching what makes an array, and not the array, lets the island forget it.
        turn.nodes = deque((n, a.op if type(a) is RayArray else a) for n, a in turn.nodes)
        self.outbox.flush()
        super()._leave(turn, nested)


class RayRuntime(Runtime):
    """A `Runtime` over islands in other processes. Programs are written as for any other.

        with rt.RayRuntime(2) as system:            # two processes on this machine
            ...
        rt.RayRuntime(2, address="10.0.0.1:6379")   # of a cluster that runs already

    Tracing, lowering, order, windows and accounts are the controller's own; an island gets one
    message for each turn, and says when what it was told is computed. Results come when they are
    asked for (`.result()` is an array of this process); a future that is an argument stays where
    it is.

    Attributes:
        hosts: the islands' processes.
    """

    def __init__(
        self,
        islands: int | Mapping[str, Sequence[RayDevice]] = 2,
        *,
        devices: int = 1,
        address: str | None = None,
        hosts: RayIslands | None = None,
        **options: Any,
    ):
        """Args:
            islands: how many to start, or devices of `hosts` by the island's name.
            devices: CPU devices of each; of other hardware an island has what Ray gives it.
            address: of a running Ray; by default one is started on this machine, for itself alone.
            hosts: islands that are there already; they are left as they are when this closes.
            options: as of a `Runtime`.

        Raises:
            RayMissing: Ray is not installed, not there, or has too little for so many islands.
        """
        self._own = hosts is None
        if hosts is None:
            count = islands if isinstance(islands, int) else len(islands)
            hosts = RayIslands(count, devices=devices, address=address)
        self.hosts = hosts
        named = hosts.devices if isinstance(islands, int) else islands
        try:
            super().__init__(named, backend=RayBackend(), **options)
        except BaseException:
            if self._own:
                hosts.close()
            raise
        window, fair = options.get("window", 16), options.get("fair", True)
        self.schedulers = {
            name: RayScheduler(_outbox(island.devices[0]), island, window, fair)
            for name, island in self.islands.items()
        }
        hosts.used_by(self)

    def outbox_lost(self, outbox: Any) -> None:
        """One of the processes is gone."""
        for name, island in self.islands.items():
            if not island.lost and any(_outbox(d) is outbox for d in island.devices):
                self.lose_island(name)

    def close(self) -> None:
        """As of a `Runtime`; ends the processes that were started for it."""
        try:
            super().close()
        finally:
            if self._own:
                self.hosts.close()


def _outbox(device: Any) -> Any:
    return device.outbox
