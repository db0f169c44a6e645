"""The tests of the local runtime on islands elsewhere: which, and what stands for `rt.Runtime`."""

from __future__ import annotations

import contextlib

from byways.runtime.ray_devices import RayDevice

from byways import runtime as rt

# What a runtime does, whatever its islands are made of. `make test-ray` runs all of it where they
# are processes.
ANYWHERE = frozenset(
    f"test_{name}.py"
    for name in (
        "autodiff",
        "bad_programs",
        "collectives",
        "dispatch",
        "donation",
        "drawing",
        "errors",
        "gates",
        "gone",
        "moves",
        "perfetto",
        "pipeline",
        "placement",
        "programs",
        "recorder",
        "resident_branches",
        "residents",
        "residents_ahead",
        "resources",
        "saving",
        "scheduler_machine",
        "store",
        "store_machine",
        "stress",
        "switch",
        "threads",
        "waiting",
        "waking",
    )
)
# Tests that bring what they test along: transfers, simulated machines, islands of their own.
OF_THEIR_OWN = frozenset(
    f"test_{name}.py"
    for name in (
        "attach",
        "attach_code",
        "attach_greeting",
        "attach_islands",
        "attach_refused",
        "attach_silence",
        "cold_file",
        "cores",
        "elastic",
        "local_on_islands",
        "ray_bad_input",
        "ray_channel",
        "ray_claims",
        "ray_deaths",
        "ray_elastic",
        "ray_ended",
        "ray_errands",
        "ray_gang_news",
        "ray_gangs",
        "ray_joining",
        "ray_letterbox",
        "ray_near",
        "ray_news",
        "ray_ports",
        "ray_processes",
        "ray_refused",
        "ray_store",
        "ray_waking",
        "ray_waking_gradients",
        "sim",
        "sim_refused",
        "transfers",
        "transfers_processes",
        "transfers_refused",
    )
)


@contextlib.contextmanager
def used_by_tests(hosts):
    """Inside, `rt.Runtime` makes runtimes over `hosts`, which are closed at the end."""
    plain, rt.Runtime = rt.Runtime, runtimes_on(hosts)
    try:
        yield hosts
    finally:
        rt.Runtime = plain
        hosts.close()


def runtimes_on(hosts):
    """What stands for `rt.Runtime` where its islands are to be of `hosts`, with the same devices.

    Args:
        hosts: with as many devices each as this process has; devices of theirs may be given too.
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
                name: [
                    d if isinstance(d, RayDevice) else hosts.devices[names[n % len(names)]][d.id]
                    for d in devices
                ]
                for n, (name, devices) in enumerate(islands.items())
            }
        return rt.RayRuntime(found, hosts=hosts, **options)

    make.hosts = hosts  # pyright: ignore[reportFunctionMemberAccess]
    return make
