"""What a controller says of itself and of all that it holds: numbers and strings only."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from .errors import RuntimeFault

if TYPE_CHECKING:
    from .controller import Controller


def status(controller: Controller) -> dict[str, Any]:
    """Islands, clients, programs, names. Asks the islands, in so far as they answer."""
    system = controller.system
    return {
        "pid": os.getpid(),
        "up": time.time() - controller.began,
        **controller.about,
        "served": controller.served,
        "islands": [_island(system, name) for name in list(system.islands)],
        "clients": [_client(system, session) for session in list(controller.sessions)],
        "programs": {
            "known": len(controller.programs),
            "named": sorted(controller.programs.names),
        },
        "values": [
            {"name": name, "arrays": arrays, "bytes": size}
            for name, (arrays, size) in controller.names.sizes().items()
        ],
    }


def _island(system: Any, name: str) -> dict[str, Any]:
    island, scheduler = system.islands[name], system.schedulers[name]
    # Of an island that is a process of its own.
    outbox = getattr(island.devices[0], "outbox", None) if island.devices else None
    pids = {} if outbox is None else getattr(system.hosts, "pids", {})
    return {
        "name": name,
        "lost": island.lost,
        "pid": os.getpid() if outbox is None else pids.get(outbox.name),
        "devices": len(island.devices),
        "kind": sorted({device.platform for device in island.devices}),
        "in flight": scheduler.in_flight,
        "nodes": scheduler.in_flight_names(),
        "queue": scheduler.waiting,
        "turns": scheduler.ended,
        "bytes": system.store.live(name),  # in the runtime's account, of what programs made
        **_asked(None if island.lost else outbox),
    }


def _asked(outbox: Any) -> dict[str, Any]:
    """What only the island's process knows."""
    found: dict[str, Any] = {"arrays": None, "held": None, "transfers": None}
    if outbox is None:
        return found
    try:
        return found | outbox.ask("figures")
    except RuntimeFault:  # it is gone since
        return found


def _client(system: Any, session: Any) -> dict[str, Any]:
    client = session.client
    held = sum(system.store.holders(name).get(client.name, 0) for name in list(system.islands))
    return {
        "name": client.name,
        "weight": client.weight,
        "priority": client.priority,
        "for": time.time() - session.since,
        "calls": session.calls,
        "running": len(client.runs),
        "values": session.held,
        "bytes": held,
    }
