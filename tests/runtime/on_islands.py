"""The tests of the local runtime on islands elsewhere: what stands for `rt.Runtime` in them."""

from __future__ import annotations

from byways.runtime.ray_devices import RayDevice

from byways import runtime as rt


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
