"""Room in a Ray for islands' processes: kept for each island, also while it is started again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from .ray_start import RayMissing

# Seconds between looks whether what is waited for is given up.
LOOK = 0.5
# Where islands that outlive their controller are found by name.
NAMESPACE = "byways"


class Places:
    """Placement groups by the island's name, with a bundle for each of its hosts."""

    def __init__(self, ray: Any, cores: int, platform: str | None, lasting: bool, address: str):
        self._ray, self._cores, self._platform = ray, cores, platform
        self._lasting, self._address = lasting, address
        self._groups: dict[str, Any] = {}
        self._numbers: dict[str, int] = {}

    def take(
        self, names: Sequence[str], devices: int, hosts: int, end: float, go_on: Callable[[], Any]
    ) -> None:
        """Room for each island that has none yet.

        Args:
            devices: of each of an island's hosts.
            end: on the monotonic clock.
            go_on: raises if this is to be given up.

        Raises:
            RayMissing: there is too little.
        """
        new = [name for name in names if name not in self._groups]
        for name in new:
            self._numbers.setdefault(name, len(self._numbers))
            self._groups[name] = self._group(name, devices, hosts)
        for name in new:
            while not self._groups[name].wait(LOOK):
                go_on()
                if time.monotonic() > end:
                    raise self._no_room(len(new) * hosts, devices)

    def number(self, name: str) -> int:
        """Of an island, in the order in which they came."""
        return self._numbers[name]

    def options(self, name: str, host: int, devices: int) -> dict[str, Any]:
        """Of the actor that is a host of an island."""
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        found: dict[str, Any] = {"num_cpus": self._cores}
        found["scheduling_strategy"] = strategy(self._groups[name], host)
        wanted = self._wanted(devices)
        if "GPU" in wanted:
            found["num_gpus"] = wanted["GPU"]
        if "TPU" in wanted:
            found["resources"] = {"TPU": wanted["TPU"]}
        if self._lasting:
            found |= {
                "name": actor_name(name, host),
                "namespace": NAMESPACE,
                "lifetime": "detached",
                "get_if_exists": True,
            }
        return found

    def give_back(self, name: str) -> None:
        """The island needs no room any more."""
        group = self._groups.pop(name, None)
        if group is not None:
            with contextlib.suppress(Exception):
                self._ray.util.remove_placement_group(group)

    def leave(self) -> None:
        """Islands that last keep theirs; all others give it back."""
        for name in list(self._groups):
            if self._lasting:
                del self._groups[name]
            else:
                self.give_back(name)

    def _group(self, name: str, devices: int, hosts: int) -> Any:
        bundles = [self._wanted(devices)] * hosts
        if not self._lasting:
            return self._ray.util.placement_group(bundles)
        try:
            return self._ray.util.get_placement_group(actor_name(name, 0))
        except ValueError:  # there is none
            return self._ray.util.placement_group(
                bundles, name=actor_name(name, 0), lifetime="detached"
            )

    def _wanted(self, devices: int) -> dict[str, int]:
        kind = {"gpu": "GPU", "cuda": "GPU", "rocm": "GPU", "tpu": "TPU"}.get(self._platform or "")
        return {"CPU": self._cores} | ({} if kind is None else {kind: devices})

    def _no_room(self, wanted: int, devices: int) -> RayMissing:
        have, free = self._ray.cluster_resources(), self._ray.available_resources()
        each = self._wanted(devices)
        said = {"CPU": "core", "GPU": "GPU", "TPU": "TPU"}
        asked = " and ".join(
            f"a {said[kind]}" if n == 1 else f"{n} {said[kind]}s" for kind, n in each.items()
        )
        there = " and ".join(
            f"{have.get(kind, 0):g} {said[kind]}s ({free.get(kind, 0):g} free now)" for kind in each
        )
        what = f"{wanted} islands want {asked} each" if wanted > 1 else f"an island wants {asked}"
        return RayMissing(
            f"{what}, and the Ray at {self._address} has {there}: ask for fewer islands, end what "
            "uses the others, or add machines"
        )


def actor_name(island: str, host: int) -> str:
    """By which a lasting island's actor, or its placement group, is found."""
    return f"byways {island} {host}"
