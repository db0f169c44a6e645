"""Islands whose hosts are objects of this process: the back end without Ray and processes."""

from __future__ import annotations

import pickle
import queue
import threading

import jax
from byways.runtime.errors import IslandLost
from byways.runtime.ray_hosts import Hosts, Started
from byways.runtime.ray_island import IslandHost

from byways import runtime as rt


class Near:
    """The way to a host of this process; what goes is pickled, as it would be for another."""

    def __init__(self, name, host):
        self.name, self.host, self.dead = name, host, threading.Event()
        self.messages = queue.SimpleQueue()
        threading.Thread(target=self._run, name=f"byways near {name}", daemon=True).start()

    def send(self, *message):
        self.messages.put(pickle.dumps(message))

    def want(self, op):
        self.host.want(op)

    def ask(self, what, *args):
        self._check()
        found = getattr(self.host, what)(*args)
        self._check()
        return pickle.loads(pickle.dumps(found))

    def join(self):
        """Waits until all that was sent until now has been taken, or never will be."""
        taken = threading.Event()
        self.messages.put(taken)
        while not (taken.wait(0.05) or self.dead.is_set()):
            pass

    def kill(self):
        self.dead.set()
        self.messages.put(b"")

    def _check(self):
        if self.dead.is_set():
            raise IslandLost(f"island {self.name!r} is lost: it was killed")

    def _run(self):
        while True:
            message = self.messages.get()
            if self.dead.is_set():
                return
            if isinstance(message, threading.Event):
                message.set()
            else:
                self.host.take_message(*pickle.loads(message))


class NearIslands(Hosts):
    """As `RayIslands`, of hosts that share this process's devices out.

    Attributes:
        hosts, lines: of each island that is there, by name.
        refuses: why no process starts any more; None while they do.
    """

    def __init__(self, islands=2, devices=1):
        super().__init__(patience=10.0)
        self.hosts, self.lines, self.refuses = {}, {}, None
        self._there, self._shares = {}, {}
        self._begin([f"island{n}" for n in range(islands)], devices, None)

    def kill(self, name):
        """As if its process had been killed."""
        self.lines[name].kill()

    def held(self):
        """How many arrays each island has when it has done what it was told."""
        for name, outbox in self.outboxes.items():
            outbox.flush(forget=True)
            self.lines[name].join()
        return super().held()

    def runtime(self, **options):
        return rt.RayRuntime(hosts=self, **options)

    def _start(self, peers, devices, end):
        if self.refuses is not None:
            raise self.refuses
        started = {}
        for name, peer in peers.items():
            first = self._shares.setdefault(name, len(self._shares)) * devices
            mine = (jax.devices() * (1 + first + devices))[first : first + devices]
            host = self.hosts[name] = IslandHost(name, mine, self._post)
            line = self.lines[name] = Near(name, host)
            self._there[peer] = host, line
            started[name] = Started(line, (0,), ("cpu",) * devices)
        return started

    def _end(self, peer):
        host, line = self._there.pop(peer, (None, None))
        if host is not None:
            line.kill()
            host.close()

    def _say_lost(self, peer, packed):
        for other, (host, _) in list(self._there.items()):
            if other != peer:
                host.lose(peer, packed)

    def _give_back(self, name):
        self.lines.pop(name, None)

    def _post(self, to, key, wires, host):
        if to in self._there:
            self._there[to][0].deliver(key, wires)
