"""Islands whose hosts are objects of this process: the back end without Ray and processes."""

from __future__ import annotations

import itertools
import pickle
import queue
import threading

import jax
from byways.runtime.errors import IslandLost
from byways.runtime.ray_devices import RayDevice
from byways.runtime.ray_island import IslandHost
from byways.runtime.ray_outbox import Outbox
from byways.runtime.ray_wire import pack_error

from byways import runtime as rt

_numbers = itertools.count(1000)


class Near:
    """The way to a host of this process; what goes is pickled, as it would be for another."""

    def __init__(self, name, host):
        self.name, self.host, self.dead = name, host, threading.Event()
        self.messages = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, *message):
        self.messages.put(pickle.dumps(message))

    def ask(self, what, *args):
        if self.dead.is_set():
            raise IslandLost(f"island {self.name!r} is lost: it was killed")
        found = getattr(self.host, what)(*args)
        return pickle.loads(pickle.dumps(found))

    def _run(self):
        while not self.dead.is_set():
            self.host.take_message(*pickle.loads(self.messages.get()))


class NearIslands(rt.RayIslands):
    """As `RayIslands`, of hosts that share this process's devices out."""

    def __init__(self, islands=2, devices=1):
        self.hosts, self.lines, self.outboxes, self.devices = {}, {}, {}, {}
        self._runtimes = []
        for n in range(islands):
            name = f"island{n}"
            mine = (jax.devices() * islands)[n * devices : (n + 1) * devices]
            host = self.hosts[name] = IslandHost(name, mine, self._post)
            self.lines[name] = Near(name, host)
            outbox = self.outboxes[name] = Outbox(name, self.lines[name], self._lost)
            self.devices[name] = [
                RayDevice(outbox, index, next(_numbers), "cpu") for index in range(devices)
            ]

    def _post(self, to, key, wires):
        self.hosts[to].deliver(key, wires)

    def used_by(self, system):
        self._runtimes.append(system)

    def kill(self, name):
        """As if its process had been killed."""
        self.lines[name].dead.set()

    def held(self):
        return {name: outbox.ask("held") for name, outbox in self.outboxes.items()}

    def _lost(self, outbox):
        for name, host in self.hosts.items():
            if name != outbox.name:
                host.lose(outbox.name, pack_error(outbox.lost))
        for system in self._runtimes:
            system.outbox_lost(outbox)

    def close(self):
        for name, outbox in self.outboxes.items():
            outbox.stop()
            self.kill(name)
            outbox.join()
            self.hosts[name].close()

    def runtime(self, **options):
        return rt.RayRuntime(hosts=self, **options)


def runtimes_on(hosts):
    """What stands for `rt.Runtime` where its islands are to be of `hosts`, with the same devices.

    Args:
        hosts: with as many devices each as this process has.
    """
    plain = rt.Runtime

    def make(islands=None, **options):
        if "backend" in options or not isinstance(islands, dict | None):
            return plain(islands, **options)
        names = list(hosts.devices)
        if islands is None:
            found = {"local": hosts.devices[names[0]]}
        else:
            found = {
                name: [hosts.devices[names[n % len(names)]][device.id] for device in devices]
                for n, (name, devices) in enumerate(islands.items())
            }
        return rt.RayRuntime(found, hosts=hosts, **options)

    return make
