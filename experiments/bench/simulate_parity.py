"""The shortest computation at which one controller keeps all devices busy (Figure 6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ... import runtime as rt
from .simulate_paper import PARITY, RAY_HOST_SECONDS, paper_machine
from .simulate_settings import SimulateSettings

# Of the time, devices work: what a controller on every host would reach.
ENOUGH = 0.999
# (islands, hosts of an island, devices of a host); the first and the last are the paper's.
MACHINES = (
    (1, 16, 8),
    (1, 32, 8),
    (1, 64, 8),
    (1, 64, 4),
    (1, 128, 4),
    (1, 256, 4),
    (1, 512, 4),
    (4, 128, 4),
)
RELAYS = (32, 16, 8)


def simulate_parity(settings: SimulateSettings) -> dict[str, Any]:
    """Parity for one-node programs, which the paper's points are taken to be, and for chains.

    Returns:
        {"rows": [{"islands", "hosts", "devices", "calls", "chained": milliseconds of a computation,
        "published": of Figure 6 or None, "error": of `calls` against it}], "relays": [{"messages":
        of the paper's fit or of Ray, "relay": hosts of a sender, 0 is all, "calls"}] at 512 hosts}.
    """
    rows = []
    for islands, hosts, devices in MACHINES:
        machine = paper_machine(islands=islands, hosts=hosts, devices=devices)
        calls, chained = (1e3 * parity(machine, nodes) for nodes in (1, settings.nodes))
        published = PARITY.get(hosts) if islands == 1 else None
        rows.append(
            {
                "islands": islands,
                "hosts": islands * hosts,
                "devices": islands * hosts * devices,
                "calls": calls,
                "chained": chained,
                "published": None if published is None else 1e3 * published,
                "error": None if published is None else calls / (1e3 * published) - 1,
            }
        )
    relays = []
    for messages, costs in (("fitted", {}), ("Ray", {"host_seconds": RAY_HOST_SECONDS})):
        for relay in (0, *RELAYS):
            machine = paper_machine(hosts=512, devices=4, relay=relay, **costs)
            found = {"messages": messages, "relay": relay, "calls": 1e3 * parity(machine, 1)}
            relays.append(found)
    return {"rows": rows, "relays": relays}


def parity(machine: rt.SimMachine, nodes: int) -> float:
    """Seconds of the shortest computation whose devices are busy `ENOUGH`, to 0.2 %."""
    own, _ = machine.message(machine.hosts)
    low, high = own / 1e3, 2 * machine.islands * own
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        if busy(machine, middle, nodes) >= ENOUGH:
            high = middle
        else:
            low = middle
    return high


def busy(machine: rt.SimMachine, seconds: float, nodes: int) -> float:
    """Share of the time for which devices work, in programs of so many nodes on each island,
    called without waiting."""
    system = rt.SimulatedRuntime(machine, {"step": seconds})
    parts = [
        system.virtual_devices(name).add_slice(machine.hosts * machine.devices)
        for name in system.islands
    ]
    steps = [rt.computation(lambda x: x + 1, part, name="step") for part in parts]

    @rt.program
    def run(xs):
        for _ in range(nodes):
            xs = [step(x) for step, x in zip(steps, xs, strict=True)]
        return xs

    xs: Any = [jax.ShapeDtypeStruct((), jnp.float32)] * len(parts)
    # What is in flight when the clock starts must be what is in flight when it stops.
    warm, calls = (20, 20) if nodes == 1 else (1, 2)
    for _ in range(warm):
        xs = run(xs)
    began = system.end
    for _ in range(calls):
        xs = run(xs)
    return calls * nodes * seconds / (system.end - began)
