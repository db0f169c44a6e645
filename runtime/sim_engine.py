"""Simulated time: tasks that wait for each other, for messages, and for links.

Devices work in the order in which they were sent their nodes, so a node begins at the latest of
its message, its inputs and the node before it: known as soon as those are. Only links are given to
whoever is ready first, so transfers alone are events, in a heap by time. The controller's clock
moves when it sends and when it waits; nothing here looks at a real clock.
"""

from __future__ import annotations

import dataclasses
import heapq
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .sim_machine import SimDevice, SimMachine


class Task:
    """Something that takes simulated time.

    Attributes:
        ready: when all that it waits for is there, as far as known.
        left: how many of those are not known yet.
        seconds: how long it takes.
        links: hosts that send and hosts that receive, of a transfer between islands.
        begin: when it begins; `end`: when it has ended; None until it is known.
        sent: the controller's clock when it began to send it, and after.
    """

    __slots__ = ("begin", "end", "left", "links", "ready", "seconds", "sent", "users")

    def __init__(self, ready: float, seconds: float, links: tuple[np.ndarray, np.ndarray] | None):
        self.ready, self.seconds, self.links, self.left = ready, seconds, links, 0
        self.begin: float | None = None
        self.end: float | None = None
        self.sent = (ready, ready)
        self.users: list[Task] = []


class Group:
    """Devices that work as one, those of a slice.

    Attributes:
        devices: ids, in the mesh's order.
        island: name.
        hosts: numbers, each once.
        near: groups that share a device with it, itself among them.
        last: the last node that was sent to it.
        busy: seconds of its nodes.
    """

    def __init__(self, devices: Sequence[SimDevice]):
        self.devices = tuple(device.id for device in devices)
        self.island = devices[0].island
        self.hosts = np.unique([device.host for device in devices])
        self.near: list[Group] = [self]
        self.last: Task | None = None
        self.busy = 0.0

    def __len__(self) -> int:
        return len(self.devices)

    def __and__(self, other: Group) -> bool:
        return other in self.near


@dataclasses.dataclass
class Totals:
    """What has been sent so far.

    Attributes:
        nodes: on devices.
        messages: of the controller.
        letters: messages counted once for each host.
        dcn: bytes between islands.
        ici: bytes between slices of one island.
    """

    nodes: int = 0
    messages: int = 0
    letters: int = 0
    dcn: int = 0
    ici: int = 0


class Engine:
    """The machine's state in simulated time.

    Attributes:
        now: the controller's clock, seconds.
        end: when the last known task ends.
        totals: counts.
        watch: a real clock, such as `time.thread_time`, or None; with one, `spent` adds up the real
            seconds that the model itself takes, to be taken off what is measured around it.
    """

    def __init__(self, machine: SimMachine):
        self.machine, self.now, self.end, self.totals = machine, 0.0, 0.0, Totals()
        self.watch: Callable[[], float] | None = None
        self.spent = 0.0
        hosts = machine.islands * machine.hosts
        self._prepared, self._out, self._in = np.zeros(hosts), np.zeros(hosts), np.zeros(hosts)
        self._events: list[tuple[float, int, Task]] = []
        self._numbers = 0
        self._groups: dict[tuple[int, ...], Group] = {}
        self._travel: dict[str, float] = {}  # by island: of the message that was sent last
        self._lock = threading.RLock()

    def group(self, devices: Sequence[SimDevice]) -> Group:
        """The one of these devices."""
        made = Group(devices)
        with self._lock:
            found = self._groups.get(made.devices)
            if found is None:
                found = self._groups[made.devices] = made
                mine = set(made.devices)
                for other in list(self._groups.values()):
                    if other is not made and not mine.isdisjoint(other.devices):
                        other.near.append(made)
                        made.near.append(other)
        return found

    # What the controller sends.

    def message(self, island: str, hosts: int) -> None:
        """One message for a turn of nodes; those that are sent next are in it."""
        own, travel = self.machine.message(hosts)
        with self._lock:
            self.now += own
            self._travel[island] = travel
            self.totals.messages += 1
            self.totals.letters += hosts

    def node(self, group: Group, seconds: float, inputs: Iterable[Task | None]) -> Task:
        """A node on all devices of a group, behind what was sent to any of them before."""
        with self._lock:
            began = self.now
            task = Task(self._arrive(group), seconds, None)
            task.sent = began, self.now
            before = [other.last for other in group.near]
            group.last = task
            group.busy += seconds
            self.totals.nodes += 1
            self._wait(task, [*inputs, *before])
        return task

    def transfer(
        self, size: int, have: Group | None, wanted: Group, whole: bool, source: Task | None
    ) -> Task:
        """An array of `size` bytes from one group's devices to another's.

        Args:
            have: None is the controller's own host, over its one link.
            whole: each device of `wanted` needs all of it; it crosses between islands once.
        """
        machine = self.machine
        with self._lock:
            began = self.now
            task = Task(self._arrive(wanted), 0.0, None)
            task.sent = began, self.now
            spread = size / machine.ici_bytes if whole and len(wanted) > 1 else 0.0
            if have is None:
                task.seconds = machine.network_seconds + size / machine.dcn_bytes + spread
                self.totals.dcn += size
            elif have.island == wanted.island:
                links = min(len(have), len(wanted)) * machine.ici_bytes
                task.seconds = machine.ici_seconds + size / links + spread
                self.totals.ici += size
            else:
                links = min(len(have.hosts), len(wanted.hosts)) * machine.dcn_bytes
                task.seconds = machine.network_seconds + size / links + spread
                task.links = have.hosts, wanted.hosts
                self.totals.dcn += size
            self._wait(task, [source])
        return task

    def _arrive(self, group: Group) -> float:
        """When the group's hosts can start what the controller sends now."""
        self.now += self.machine.node_seconds
        at, hosts = self.now + self._travel.get(group.island, 0.0), group.hosts
        if len(hosts) > 1:
            prepared = max(at, float(self._prepared[hosts].max())) + self.machine.prepare_seconds
        else:
            prepared = max(at, float(self._prepared[hosts[0]])) + self.machine.prepare_seconds
        self._prepared[hosts] = prepared
        return prepared

    # Who waits for whom.

    def _wait(self, task: Task, before: Iterable[Task | None]) -> None:
        for other in before:
            if other is None:
                continue
            if other.end is None:
                other.users.append(task)
                task.left += 1
            elif other.end > task.ready:
                task.ready = other.end
        if not task.left:
            self._known(task)

    def _known(self, task: Task) -> None:
        """All that a task waits for is known; so is its end, and those of who waits for it."""
        found = [task]
        while found:
            task = found.pop()
            if task.links is not None and task.begin is None:
                self._numbers += 1
                heapq.heappush(self._events, (task.ready, self._numbers, task))
                continue
            if task.begin is None:
                task.begin = task.ready
            task.end = end = task.begin + task.seconds
            self.end = max(self.end, end)
            users, task.users = task.users, []
            for user in users:
                user.ready = max(user.ready, end)
                user.left -= 1
                if not user.left:
                    found.append(user)

    def _event(self) -> None:
        """The transfer that is ready first gets its links."""
        ready, _, task = heapq.heappop(self._events)
        assert task.links is not None
        out, into = task.links
        task.begin = max(ready, float(self._out[out].max()), float(self._in[into].max()))
        self._out[out] = self._in[into] = task.begin + task.seconds
        self._known(task)

    # What the controller sees.

    def reached(self, task: Task | None) -> bool:
        """Whether the controller knows by now that it has ended."""
        if task is None:
            return True
        with self._lock:
            while self._events and self._events[0][0] <= self.now:
                self._event()
            return task.end is not None and task.end + self.machine.network_seconds <= self.now

    def wait(self, task: Task | None, limit: float = math.inf) -> bool:
        """The controller waits, at most `limit` seconds; whether it has ended."""
        if task is None:
            return True
        with self._lock:
            while task.end is None:
                self._event()
            at = task.end + self.machine.network_seconds
            self.now = max(self.now, min(at, self.now + limit))
            return at <= self.now

    def finish(self) -> float:
        """When all that was sent has ended."""
        with self._lock:
            while self._events:
                self._event()
            return self.end

    def timed(self) -> _Timed:
        """Adds the real time inside to `spent`, if there is a watch."""
        return _Timed(self)


class _Timed:
    __slots__ = ("began", "engine")

    def __init__(self, engine: Engine):
        self.engine = engine

    def __enter__(self) -> None:
        watch = self.engine.watch
        self.began = 0.0 if watch is None else watch()

    def __exit__(self, *_: object) -> None:
        watch = self.engine.watch
        if watch is not None:
            self.engine.spent += watch() - self.began


# So that a real clock can be named where one is wanted.
CPU_CLOCK = time.thread_time
