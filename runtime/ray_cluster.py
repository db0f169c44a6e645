"""Islands as Ray actors: starting or joining a Ray, placing them, ending them.

Ray is imported when islands are made. One actor is one host of one island and owns its process's
devices; placement groups keep a core for each.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import socket
import time
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from .errors import IslandLost, RuntimeFault
from .faults import said
from .ray_actor import GROUPS, IslandActor, ask, tell
from .ray_devices import RayDevice
from .ray_outbox import Outbox
from .ray_wire import pack_error

# What the Ray that is started here, and all of its processes, find in their environment: none has a
# checkout on its path; islands are as eager as this process; a slow machine may take its time.
STARTING = {
    "PYTHONSAFEPATH": "1",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_numbers = itertools.count(1)


class RayMissing(RuntimeFault):
    """Ray is not installed, not where it was said to be, or has too little."""


class RayLine:
    """The way to an actor."""

    def __init__(self, name: str, actor: Any):
        self._name, self._actor = name, actor
        self._send = tell(actor, "take_message")

    def send(self, number: int, first: int, ops: list[tuple]) -> None:
        """A message; Ray keeps their order."""
        with contextlib.suppress(Exception):  # who listens for news hears why
            self._send(number, first, ops)

    def ask(self, what: str, *args: Any) -> Any:
        """Raises IslandLost if the actor is gone."""
        ray = _ray()
        try:
            return ray.get(ask(self._actor, what)(*args))
        except ray.exceptions.RayError as error:
            raise IslandLost(f"island {self._name!r} is lost: {said(error)}") from None


class RayIslands:
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
    ):
        """Args:
            islands: how many, or their names.
            devices: CPU devices of each.
            cores: that the threads of each keep to, one island's after the other's, so that islands
                on one machine do not compute on each other's; None leaves them all to all.
            address: of a running Ray, `host:port` or `auto`; None starts one on this machine, which
                listens on the loopback alone and ends with the islands.
            patience: seconds for all of it to be there.

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
        ray = _ray()
        self._closed, self._runtimes = False, weakref.WeakSet()
        self._group: Any = None
        self._actors: dict[str, Any] = {}
        self.outboxes: dict[str, Outbox] = {}
        self._started = _start(ray, len(names) * (cores or 1), address)
        try:
            self._place(ray, names, devices, cores, patience)
        except BaseException:
            self.close()
            raise

    def _place(
        self, ray: Any, names: list[str], devices: int, cores: int | None, patience: float
    ) -> None:
        end = time.monotonic() + patience
        self.address = ray.get_runtime_context().gcs_address
        group = self._group = ray.util.placement_group([{"CPU": cores or 1}] * len(names))
        if not group.wait(patience):
            have = ray.cluster_resources().get("CPU", 0)
            each = "a core" if (cores or 1) == 1 else f"{cores} cores"
            raise RayMissing(
                f"{len(names)} islands want {each} each, and the Ray at {self.address} has "
                f"{have:g}, or others use them: ask for fewer islands, or add machines"
            )
        kind = ray.remote(concurrency_groups=GROUPS, max_restarts=0, max_task_retries=0)(
            IslandActor
        )
        for n, name in enumerate(names):
            where = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(group, n)
            made = kind.options(num_cpus=cores or 1, scheduling_strategy=where)
            mine = None if cores is None else (n * cores, cores)
            self._actors[name] = made.remote(name, devices, mine)
        hellos: dict[str, Any] = {}
        for name, actor in self._actors.items():
            try:
                left = max(1.0, end - time.monotonic())
                hellos[name] = ray.get(ask(actor, "hello")(self._actors), timeout=left)
            except ray.exceptions.RayError as error:
                raise RayMissing(f"island {name!r} does not start: {said(error)}") from error
        self.pids = {name: hello["pid"] for name, hello in hellos.items()}
        self.devices: dict[str, list[RayDevice]] = {}
        for name, hello in hellos.items():
            outbox = Outbox(name, RayLine(name, self._actors[name]), self._lost)
            self.outboxes[name] = outbox
            self.devices[name] = [
                RayDevice(outbox, n, next(_numbers), kind)
                for n, kind in enumerate(hello["devices"])
            ]

    def used_by(self, system: Any) -> None:
        """A runtime that is told when an island is lost."""
        self._runtimes.add(system)

    def held(self) -> dict[str, int]:
        """How many arrays each island has now."""
        return {
            name: outbox.ask("held")
            for name, outbox in self.outboxes.items()
            if outbox.lost is None
        }

    def _lost(self, outbox: Outbox) -> None:
        """Tells the other islands and the runtimes."""
        packed = pack_error(outbox.lost or IslandLost(outbox.name))
        for name, actor in self._actors.items():
            if name != outbox.name:
                with contextlib.suppress(Exception):
                    tell(actor, "lose")(outbox.name, packed)
        for system in list(self._runtimes):
            system.outbox_lost(outbox)

    def close(self) -> None:
        """Ends the processes, and the Ray if it was started for them. May be called twice."""
        if self._closed:
            return
        self._closed = True
        ray = _ray()
        for outbox in self.outboxes.values():
            outbox.stop()
        for actor in self._actors.values():
            with contextlib.suppress(Exception):
                ray.kill(actor)
        for outbox in self.outboxes.values():
            outbox.lose(IslandLost(f"island {outbox.name!r} was closed"))
            outbox.join()
        if self._group is not None:
            with contextlib.suppress(Exception):
                ray.util.remove_placement_group(self._group)
        self._actors.clear()
        if self._started:
            ray.shutdown()

    def __enter__(self) -> RayIslands:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        said = ", ".join(f"{name}: {len(found)}" for name, found in self.devices.items())
        return f"RayIslands({said})"


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise RayMissing(
            "islands in other processes need Ray, which is not installed: pip install "
            "'byways[ray]', or use Runtime() for the devices of this process"
        ) from None


def _start(ray: Any, islands: int, address: str | None) -> bool:
    """Connects to a Ray, and starts one if no address is given; whether it is ours to end."""
    if ray.is_initialized():
        return False
    common = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": False}
    if address is not None:
        try:
            host, _, port = address.rpartition(":")
            if host:  # Ray itself asks for minutes
                socket.create_connection((host, int(port)), 5).close()
            ray.init(address=address, **common)
        except Exception as error:
            raise RayMissing(
                f"no Ray answers at {address!r} ({said(error)}): start one by `ray start --head`, "
                "or leave address out"
            ) from error
        return True
    with _environment(STARTING):
        # Ray has this for other systems: only so does it stay on the loopback.
        _constants(ray).ENABLE_RAY_CLUSTER = False
        try:
            ray.init(
                address="local",
                num_cpus=max(os.cpu_count() or 1, islands),
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
                **common,
            )
        except Exception as error:
            ray.shutdown()
            raise RayMissing(f"Ray does not start on this machine: {said(error)}") from error
    return True


def _constants(ray: Any) -> Any:
    return ray._private.ray_constants


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    """What is set already stays; what is set here is gone afterwards."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)
