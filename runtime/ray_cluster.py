"""Islands as Ray actors: placed, started, ended.

Ray is imported when islands are made. One actor is one host of one island and owns its process's
devices; a placement group keeps cores for each, also while its process is started again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from .errors import IslandLost
from .faults import said
from .ray_actor import GROUPS, IslandActor, ask, tell
from .ray_hosts import Hosts, Started
from .ray_line import RayLine
from .ray_start import RayMissing, start_ray, the_ray

# Seconds between looks whether what is waited for is given up.
LOOK = 0.5


class RayIslands(Hosts):
    """Processes that are islands.

        with rt.RayIslands(2, devices=4) as hosts:
            with rt.RayRuntime(hosts=hosts) as system:
                …

    Attributes:
        devices: of each island, by its name.
        pids: of their processes.
        address: of the Ray that they are part of.
    """

    def __init__(
        self,
        islands: int | Sequence[str] = 2,
        *,
        devices: int = 1,
        cores: int | None = None,
        address: str | None = None,
        patience: float = 180.0,
        silence: float = 10.0,
    ):
        """Args:
            islands: how many, or their names.
            devices: CPU devices of each.
            cores: that the threads of each keep to, one island's after the other's, so that islands
                on one machine do not compute on each other's; None leaves them all to all.
            address: of a running Ray, `host:port` or `auto`; None starts one on this machine, which
                listens on the loopback alone and ends with the islands.
            patience: seconds for all of it to be there, and for an island that is started again.
            silence: seconds after which an island that is there and says nothing, not even that
                there is no news, counts as lost. Computing and compiling are not silence.

        Raises:
            RayMissing: Ray is not installed, not there, or has too little for so many islands.
            ValueError: a number below 1.
        """
        names = (
            [f"island{n}" for n in range(islands)] if isinstance(islands, int) else list(islands)
        )
        if not names or devices < 1 or len(set(names)) < len(names):
            raise ValueError(f"islands={islands!r}, devices={devices}: one or more, by other names")
        if cores is not None and cores < 1:
            raise ValueError(f"cores={cores}: one or more, or None for all")
        if not silence >= 1:
            raise ValueError(f"silence={silence}: a second or more; islands speak four times in it")
        super().__init__(patience)
        self._ray = ray = the_ray()
        self._cores, self._silence = cores, silence
        self._groups: dict[str, Any] = {}  # by island
        self._places: dict[str, int] = {}  # which cores, by island
        self._actors: dict[str, Any] = {}  # by peer
        self._lines: dict[str, RayLine] = {}
        self._ours = start_ray(ray, len(names) * (cores or 1), address)
        try:
            self.address = ray.get_runtime_context().gcs_address
            self._begin(names, devices, patience)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the processes, and the Ray if it was started for them. May be called twice."""
        if self._closed:
            return
        super().close()
        for peer in list(self._actors):
            self._end(peer)
        for name in list(self._groups):
            self._give_back(name)
        if self._ours:
            self._ray.shutdown()

    def _start(self, peers: dict[str, str], devices: int, end: float) -> dict[str, Started]:
        try:
            self._place(list(peers), end)
            before = dict(self._actors)
            for name, peer in peers.items():
                self._actors[peer] = self._actor(name, devices)
            found = {name: self._hello(name, peer, end) for name, peer in peers.items()}
            self._introduce(before, {peer: self._actors[peer] for peer in peers.values()})
        except BaseException:
            for name, peer in peers.items():
                self._end(peer)
                if name not in self.outboxes:
                    self._give_back(name)
            raise
        return found

    def _place(self, names: Sequence[str], end: float) -> None:
        """Room for each that has none yet."""
        cores = self._cores or 1
        new = [name for name in names if name not in self._groups]
        for name in new:
            self._places.setdefault(name, len(self._places))
            self._groups[name] = self._ray.util.placement_group([{"CPU": cores}])
        for name in new:
            while not self._groups[name].wait(LOOK):
                self._check_open()
                if time.monotonic() > end:
                    raise self._no_room(len(new))

    def _no_room(self, wanted: int) -> RayMissing:
        have, cores = self._ray.cluster_resources().get("CPU", 0), self._cores or 1
        free = self._ray.available_resources().get("CPU", 0)
        each = "a core" if cores == 1 else f"{cores} cores"
        what = f"{wanted} islands want {each} each" if wanted > 1 else f"an island wants {each}"
        return RayMissing(
            f"{what}, and the Ray at {self.address} has {have:g}, or others use them ({free:g} are "
            "free now): ask for fewer islands, or add machines"
        )

    def _actor(self, name: str, devices: int) -> Any:
        ray, cores = self._ray, self._cores
        kind = ray.remote(concurrency_groups=GROUPS, max_restarts=0, max_task_retries=0)(
            IslandActor
        )
        where = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            self._groups[name], 0
        )
        mine = None if cores is None else (self._places[name] * cores, cores)
        made = kind.options(num_cpus=cores or 1, scheduling_strategy=where)
        return made.remote(name, devices, mine)

    def _hello(self, name: str, peer: str, end: float) -> Started:
        """Waits until it answers."""
        ray = self._ray
        try:
            answer = ask(self._actors[peer], "hello")(self._actors)
            while True:
                try:
                    told = ray.get(answer, timeout=LOOK)
                    break
                except ray.exceptions.GetTimeoutError:
                    self._check_open()
                    if time.monotonic() > end:
                        raise RayMissing(
                            f"island {name!r} does not start: its process did not answer in time; "
                            "be more patient, or see what else the machine does"
                        ) from None
        except ray.exceptions.RayError as error:
            raise RayMissing(f"island {name!r} does not start: {said(error)}") from error
        line = self._lines[peer] = RayLine(name, self._actors[peer], self._silence)
        return Started(line, told["pid"], tuple(told["devices"]))

    def _introduce(self, before: dict[str, Any], new: dict[str, Any]) -> None:
        """Those that were there know the new ones, before anything is sent that is for them."""
        for outbox in list(self.outboxes.values()):
            if outbox.peer in before and outbox.lost is None:
                with contextlib.suppress(IslandLost):  # who listens for its news hears it, too
                    outbox.ask("meet", new)

    def _end(self, peer: str) -> None:
        actor, line = self._actors.pop(peer, None), self._lines.pop(peer, None)
        if line is not None:
            line.end()
        if actor is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(actor)

    def _say_lost(self, peer: str, packed: tuple) -> None:
        for other, actor in list(self._actors.items()):
            if other != peer:
                with contextlib.suppress(Exception):
                    tell(actor, "lose")(peer, packed)

    def _give_back(self, name: str) -> None:
        group = self._groups.pop(name, None)
        if group is not None:
            with contextlib.suppress(Exception):
                self._ray.util.remove_placement_group(group)
