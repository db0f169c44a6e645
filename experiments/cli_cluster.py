"""`byways cluster up|status|down`: options, and what is printed. Imports neither JAX nor Ray."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from .cli_options import parse
from .errors import UsageError
from .ray_there import check_ray

LOOPBACK = ("127.0.0.1", "localhost")


@dataclasses.dataclass(frozen=True)
class UpOptions:
    """Start a cluster that stays when this command ends: `byways cluster up [options]`.

    Its islands are processes that Ray starts, on this machine or where --ray-address says; a
    controller of its own owns them, which notebooks and scripts attach to by `runtime.attach()`.

    Attributes:
        name: of the cluster; one user may have several.
        islands: how many.
        devices: CPU devices of each; of other hardware an island has what Ray gives it.
        local: no Ray: islands are shares of the controller's own devices.
        ray_address: of a running Ray, host:port; by default one is started for the cluster alone.
        listen: where clients come in, host or host:port. Lines are authenticated by a token, and
            not encrypted: leave it on the loopback, and come from elsewhere by ssh -L.
        memory_budget: bytes of each island that clients' values may have; 0 is no limit.
        patience: seconds until it must be up.
    """

    name: str = "default"
    islands: int = 2
    devices: int = 1
    local: bool = False
    ray_address: str = ""
    listen: str = "127.0.0.1"
    memory_budget: int = 0
    patience: float = 180.0


@dataclasses.dataclass(frozen=True)
class StatusOptions:
    """Look at a cluster, live: `byways cluster status [options]`.

    Attributes:
        name: of the cluster.
        address: of a controller elsewhere, host:port; its token is in $BYWAYS_TOKEN.
        once: look once, and end.
        json: print one JSON object, and end.
        every: seconds between two looks.
    """

    name: str = "default"
    address: str = ""
    once: bool = False
    json: bool = False
    every: float = 1.0


@dataclasses.dataclass(frozen=True)
class DownOptions:
    """End a cluster and all that was started for it: `byways cluster down [options]`.

    Attributes:
        name: of the cluster.
        patience: seconds for it to end by itself, before it is killed.
    """

    name: str = "default"
    patience: float = 60.0


def cluster_up(arguments: Sequence[str]) -> int:
    """`byways cluster up [options]`"""
    options = parse(UpOptions, arguments, "byways cluster up", UpOptions())

    from ..runtime import ControllerSettings
    from .cluster import start_cluster

    try:
        settings = ControllerSettings(
            name=options.name,
            islands=options.islands,
            devices=options.devices,
            local=options.local,
            ray=options.ray_address,
            listen=options.listen,
            memory_budget=options.memory_budget,
            patience=options.patience,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not options.local:
        check_ray("--local has islands within the controller's own process")
    found = start_cluster(settings)
    if settings.place[0] not in LOOPBACK:
        print(
            f"byways: it listens at {found.address} to other machines, too: lines are "
            "authenticated by the cluster's token, and not encrypted",
            file=sys.stderr,
        )
    plain = options.name == "default"
    told, option = ("", "") if plain else (f"cluster={options.name!r}", f" --name {options.name}")
    each = "1 device" if options.devices == 1 else f"{options.devices} devices"
    many = "1 island" if options.islands == 1 else f"{options.islands} islands"
    print(f"cluster {found.name!r} is up: {many} of {each}; controller {found.pid}", end=" ")
    print(f"at {found.address}")
    print(f"use it by byways.runtime.attach({told}); look: byways cluster status{option};", end=" ")
    print(f"end it: byways cluster down{option}")
    return 0


def cluster_status(arguments: Sequence[str]) -> int:
    """`byways cluster status [--once] [--json]`"""
    options = parse(StatusOptions, arguments, "byways cluster status", StatusOptions())
    if options.every <= 0:
        raise UsageError(f"--every {options.every:g}: seconds above 0")

    from ..runtime import Watched

    with Watched(options.address or None, cluster=options.name) as watched:
        if options.json:
            print(json.dumps(watched.status(), ensure_ascii=False))
            return 0
        from .cluster.view import picture, watch

        if options.once:
            from rich.console import Console

            Console(highlight=False).print(picture(watched.status()))
        else:
            watch(watched.status, options.every)
    return 0


def cluster_down(arguments: Sequence[str]) -> int:
    """`byways cluster down [--name NAME]`"""
    options = parse(DownOptions, arguments, "byways cluster down", DownOptions())

    from .cluster import end_cluster

    lines = end_cluster(options.name, options.patience)
    print("\n  ".join([f"cluster {options.name!r}; ended:", *lines]))
    return 0
