"""Islands as Ray actors: started, known to each other, ended.

Ray is imported when islands are made. An actor is one host of one island and owns its process's
devices. It says what it is before anything is sent to it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .errors import IslandLost
from .ray_actor import GROUPS, IslandActor, ask, tell
from .ray_claims import IslandTaken, new_claim, said_of
from .ray_hosts import Hosts, Started
from .ray_line import RayLine
from .ray_places import LOOK, Places
from .ray_start import RayMissing, start_ray, the_ray, why_not
from .ray_versions import IslandMismatch, check_versions


class RayIslands(Hosts):
    """Processes that are islands.

        with rt.RayIslands(2, devices=4) as hosts:
            with rt.RayRuntime(hosts=hosts) as system:
                …

    Attributes:
        devices: of each island, by its name.
        pids: of their (first) processes.
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
        platform: str | None = None,
        lasting: bool = False,
        hosts_per_island: int = 1,
        exposed: bool = False,
    ):
        """Args:
            islands: how many, or their names.
            devices: of each host of each.
            cores: that the threads of each keep to, one island's after the other's, so that islands
                on one machine do not compute on each other's; None leaves them all to all.
            address: of a running Ray, `host:port` or `auto`; None starts one on this machine, which
                listens on the loopback alone and ends with the islands.
            patience: seconds for all of it to be there, and for an island that is started again.
            silence: seconds after which an island that is there and says nothing, not even that
                there is no news, counts as lost. Computing and compiling are not silence.
            platform: `cpu`, `gpu` or `tpu`, of which Ray gives each island so many; None is what
                JAX finds in a process that asks Ray for cores alone.
            lasting: the processes outlive `close()` and this process. Who asks for islands of
                these names next takes them over, emptied, if nobody has them; `remove` ends them.
            hosts_per_island: processes of each, which `jax.distributed` joins: a slice may lie over
                several, and the death of one is the island's.
            exposed: arrays go over the machines' own addresses and not over the loopback, as they
                must between machines. Who sees the wire can read them.

        Raises:
            RayMissing: Ray is not installed, not there, or has too little for so many islands.
            IslandMismatch: an island is of other versions, or has other devices.
            IslandTaken: a lasting island is another controller's.
            ValueError: a number below 1, or lasting islands of a Ray that ends with this process.
        """
        names = (
            [f"island{n}" for n in range(islands)] if isinstance(islands, int) else list(islands)
        )
        if not names or devices < 1 or len(set(names)) < len(names):
            raise ValueError(f"islands={islands!r}, devices={devices}: one or more, by other names")
        if hosts_per_island < 1 or (lasting and hosts_per_island > 1):
            raise ValueError(
                f"hosts_per_island={hosts_per_island}: one or more, and one if they are to last"
            )
        if cores is not None and cores < 1:
            raise ValueError(f"cores={cores}: one or more, or None for all")
        if not silence >= 1:
            raise ValueError(f"silence={silence}: a second or more; islands speak four times in it")
        if platform not in (None, "cpu", "gpu", "cuda", "rocm", "tpu"):
            raise ValueError(f"platform={platform!r}: 'cpu', 'gpu' or 'tpu', or None")
        if lasting and address is None:
            raise ValueError("lasting=True needs the address of a Ray that lasts, too")
        super().__init__(patience, hosts_per_island)
        self._ray = ray = the_ray()
        self._cores, self._platform, self._lasting = cores, platform, lasting
        self._exposed = exposed
        self._machines: set[str] = set()
        self._claim = new_claim(silence)
        self._actors: dict[str, list[Any]] = {}  # of each host, by peer
        self._entrances: dict[str, list[tuple]] = {}
        self._lines: dict[str, RayLine] = {}
        self._ended: set[Any] = set()  # actors whose names may not be free yet
        self._ours = start_ray(ray, len(names) * hosts_per_island * (cores or 1), address)
        self.address = ray.get_runtime_context().gcs_address
        self._places = Places(ray, cores or 1, platform, lasting, self.address)
        try:
            self._begin(names, devices, patience)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the processes, and the Ray if it was started for them; leaves lasting ones, empty.
        May be called twice.
        """
        if self._closed:
            return
        super().close()
        for peer in list(self._actors):
            self._end(peer)
        self._places.leave()
        if self._ours:
            self._ray.shutdown()

    # Starting.

    def _start(self, peers: dict[str, str], devices: int, end: float) -> dict[str, Started]:
        try:
            self._places.take(list(peers), devices, self._hosts, end, self._check_open)
            before = list(self._actors)
            for name, peer in peers.items():
                self._actors[peer] = [
                    self._actor(name, host, devices, end) for host in range(self._hosts)
                ]
            told = {name: self._hello(name, peer, end) for name, peer in peers.items()}
            for name, peer in peers.items():
                self._entrances[peer] = [hello["entrance"] for hello in told[name]]
            found = {}
            for name, peer in peers.items():
                platforms = self._began(name, peer, devices, told[name][0]["address"], end)
                near = self._exposed or all(map(self._is_here, told[name]))
                line = RayLine(
                    name, self._actors[peer], self._entrances[peer] if near else None, self._claim
                )
                self._lines[peer] = line
                pids = tuple(hello["pid"] for hello in told[name])
                found[name] = Started(line, pids, platforms)
            self._introduce(before, {peer: self._known(peer) for peer in peers.values()})
        except BaseException as error:
            others = self._lasting and isinstance(error, IslandTaken | IslandMismatch)
            for name, peer in peers.items():
                self._end(peer, leave=others)
                if name not in self.outboxes and not self._lasting:
                    self._places.give_back(name)
            raise
        return found

    def _actor(self, name: str, host: int, devices: int, end: float) -> Any:
        kind = self._ray.remote(concurrency_groups=GROUPS, max_restarts=0, max_task_retries=0)(
            IslandActor
        )
        options = self._places.options(name, host, devices)
        while True:
            made = kind.options(**options).remote(name, self._exposed)
            if made._actor_id not in self._ended:
                return made
            if time.monotonic() > end:
                raise RayMissing(f"island {name!r} does not start: the one before does not end")
            self._check_open()
            time.sleep(LOOK)

    def _hello(self, name: str, peer: str, end: float) -> list[dict[str, Any]]:
        """Waits until its hosts answer, and are ours; what they say."""
        told = self._wait(name, [ask(actor, "hello")() for actor in self._actors[peer]], end)
        for hello in told:
            check_versions(name, hello["versions"])
            self._machines.add(hello["address"].rpartition(":")[0])
        if len(self._machines) > 1 and not self._exposed:
            raise IslandMismatch(
                f"islands are on several machines ({', '.join(sorted(self._machines))}), between "
                "which arrays cannot go over the loopback: exposed=True lets them go over the "
                "machines' own addresses, unencrypted"
            )
        asked = 0
        while True:
            claims = [ask(actor, "claim")(self._claim) for actor in self._actors[peer]]
            taken = next((found for found in self._wait(name, claims, end) if found), None)
            if taken is None:
                return told
            # One that was killed looks alive until it has been silent for long enough.
            if (asked and taken["heard"] < 2 * LOOK) or time.monotonic() > end:
                raise IslandTaken(
                    f"island {name!r} has a controller, which was heard {taken['heard']:.1f} s "
                    f"ago: {said_of(taken)}. Let that one close its islands, or take other names"
                )
            asked += 1
            self._check_open()
            time.sleep(2 * LOOK)

    def _began(
        self, name: str, peer: str, devices: int, address: str, end: float
    ) -> tuple[str, ...]:
        """Its devices, which are what was asked for."""
        cores, hosts = self._cores, self._hosts
        settings = {
            "devices": devices,
            "peer": peer,
            "hosts": hosts,
            "coordinator": address,
            "patience": max(1, round(end - time.monotonic())),
            "platform": self._platform,
            "x64": bool(jax.config.read("jax_enable_x64")),
        }
        answers = []
        for host, actor in enumerate(self._actors[peer]):
            first = (self._places.number(name) * hosts + host) * (cores or 0)
            mine = {"host": host, "cores": None if cores is None else (first, cores)}
            peers = {known: self._known(known) for known in list(self._entrances)}
            answers.append(ask(actor, "begin")(settings | mine, peers))
        found = tuple(self._wait(name, answers, end)[0])
        other = {platform for platform in found if self._platform not in (None, platform)}
        if len(found) != devices * hosts or (other and self._platform not in ("cuda", "rocm")):
            wanted = f"{devices * hosts} {self._platform or 'CPU'}"
            raise IslandMismatch(
                f"island {name!r} has other devices than asked for: {len(found)} of "
                f"{'/'.join(sorted(set(found)))} in place of {wanted}. Ask for these (devices=, "
                "platform=), or for other machines"
            )
        return found

    def _wait(self, name: str, answers: list[Any], end: float) -> list[Any]:
        """Answers of an island that is being started."""
        ray = self._ray
        try:
            while True:
                try:
                    return ray.get(answers, timeout=LOOK)
                except ray.exceptions.GetTimeoutError:
                    self._check_open()
                    if time.monotonic() > end:
                        raise RayMissing(
                            f"island {name!r} does not start: its process did not answer in time; "
                            "be more patient, or see what else the machine does"
                        ) from None
        except ray.exceptions.RayTaskError as error:
            raise RayMissing(
                f"island {name!r} does not start: {why_not(error.cause or error)}"
            ) from error
        except ray.exceptions.RayError as error:
            raise RayMissing(f"island {name!r} does not start: {why_not(error)}") from error

    def _is_here(self, hello: dict[str, Any]) -> bool:
        """Whether a process is on this machine."""
        return hello["address"].rpartition(":")[0] == self._ray.util.get_node_ip_address()

    def _known(self, peer: str) -> list[tuple[Any, tuple]]:
        """What others know of an island; nothing of one that was lost just now."""
        return list(zip(self._actors.get(peer, ()), self._entrances.get(peer, ())))  # noqa: B905

    def _introduce(self, before: Sequence[str], new: dict[str, Any]) -> None:
        """Those that were there know the new ones, before anything is sent that is for them."""
        for outbox in list(self.outboxes.values()):
            if outbox.peer in before and outbox.lost is None:
                with contextlib.suppress(IslandLost):  # who listens for its news hears it, too
                    outbox.ask("meet", new)

    # Ending.

    def _end(self, peer: str, leave: bool = False) -> None:
        actors, line = self._actors.pop(peer, ()), self._lines.pop(peer, None)
        self._entrances.pop(peer, None)
        if line is not None:
            line.end()
        for actor in actors:
            if leave or (self._lasting and self._closed):  # one that is another's does not mind
                self._quietly(lambda actor=actor: tell(actor, "leave")(self._claim["id"]))
            else:
                self._ended.add(actor._actor_id)
                self._quietly(lambda actor=actor: self._ray.kill(actor))

    def _say_lost(self, peer: str, packed: tuple) -> None:
        others = [found for other, found in list(self._actors.items()) if other != peer]
        for actor in (actor for found in others for actor in found):
            self._quietly(lambda actor=actor: tell(actor, "lose")(peer, packed))

    def _give_back(self, name: str) -> None:
        if not (self._lasting and self._closed):
            self._places.give_back(name)

    def _quietly(self, call: Callable[[], Any]) -> None:
        with contextlib.suppress(Exception):  # whoever it was for is gone
            call()
