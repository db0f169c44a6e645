"""A model of a machine: islands of hosts of devices, and what messages, links and work cost there.

Every constant is a number that somebody gives: a machine of these is as true as they are.
"""

from __future__ import annotations

import dataclasses
import math

from .errors import SliceError


class SimDevice:
    """A device that is not there.

    Attributes:
        id: its number, over all islands.
        island: name.
        host: number of the host it sits in, over all islands.
    """

    __slots__ = ("host", "id", "island")

    def __init__(self, number: int, island: str, host: int):
        self.id, self.island, self.host = number, island, host

    def __repr__(self) -> str:
        return f"SimDevice({self.id}, host {self.host} of {self.island!r})"


@dataclasses.dataclass(frozen=True)
class SimMachine:
    """Topology and constants. Times in seconds, rates in bytes or FLOPs per second.

    The controller sends one message for each turn of nodes (what the scheduler grants) to every
    host of the turn's slices. It is one thread: its costs add up, and a node cannot start before
    its message is there.

    Attributes:
        islands: how many, named `island0`, `island1`, …
        hosts: of an island.
        devices: of a host.
        call_seconds: the controller's, for a message.
        host_seconds: the controller's, for each host that a message goes to.
        node_seconds: the controller's, for each node in a message.
        relay: hosts that one sender serves; those pass the message on to as many each. 0: the
            controller serves all hosts itself.
        network_seconds: one way between any two hosts.
        prepare_seconds: a host's, for each node, before its devices can start it.
        flops: of a device, as it reaches them.
        memory_bytes: a device's own memory, bytes per second.
        ici_bytes: a device's links within the island, bytes per second and direction.
        ici_seconds: what any exchange within an island takes at the least.
        dcn_bytes: a host's link to other islands, bytes per second and direction.

    Raises:
        SliceError: a count below 1.
        ValueError: a negative time, or a rate that is not above 0.
    """

    islands: int = 1
    hosts: int = 16
    devices: int = 8
    call_seconds: float = 100e-6
    host_seconds: float = 10e-6
    node_seconds: float = 10e-6
    relay: int = 0
    network_seconds: float = 50e-6
    prepare_seconds: float = 50e-6
    flops: float = 50e12
    memory_bytes: float = 450e9
    ici_bytes: float = 70e9
    ici_seconds: float = 5e-6
    dcn_bytes: float = 10e9

    def __post_init__(self) -> None:
        for name in ("islands", "hosts", "devices"):
            count = getattr(self, name)
            if not isinstance(count, int) or count < 1:
                raise SliceError(
                    f"a simulated machine with {name}={count!r}: it takes a whole number of 1 or "
                    "more (islands, hosts of an island, devices of a host)"
                )
        if self.relay == 1 or self.relay < 0:
            raise ValueError(f"relay={self.relay}: 2 or more hosts for each sender, or 0 for all")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_seconds") and not 0 <= value < math.inf:
                raise ValueError(f"{field.name}={value!r}: a time is 0 s or more")
            if (field.name == "flops" or field.name.endswith("_bytes")) and not value > 0:
                raise ValueError(f"{field.name}={value!r}: a rate is above 0 per second")

    def islands_of_devices(self) -> dict[str, list[SimDevice]]:
        """Devices by the island's name, for a runtime."""
        found: dict[str, list[SimDevice]] = {}
        for island in range(self.islands):
            name = f"island{island}"
            hosts = range(island * self.hosts, (island + 1) * self.hosts)
            found[name] = [
                SimDevice(host * self.devices + n, name, host)
                for host in hosts
                for n in range(self.devices)
            ]
        return found

    def message(self, hosts: int) -> tuple[float, float]:
        """What a message to so many hosts costs the controller, and how long it then travels."""
        if not self.relay or hosts <= self.relay:
            return self.call_seconds + hosts * self.host_seconds, self.network_seconds
        depth = 1
        while self.relay**depth < hosts:
            depth += 1
        hop = self.network_seconds + self.relay * self.host_seconds
        own = self.call_seconds + self.relay * self.host_seconds
        return own, self.network_seconds + (depth - 1) * hop
