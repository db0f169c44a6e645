"""Where a run's islands come from: processes on this machine, a running Ray, or our devices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from ...runtime import Device, Runtime
from ..compilation_cache import cache_folder
from ..errors import RunError
from .events import Events

if TYPE_CHECKING:
    from .team import Team

# Instead of an address: islands are devices of this process.
LOCAL = "local"


@dataclasses.dataclass
class Islands:
    """The islands of a run.

    Attributes:
        system: the runtime whose islands they are.
        events: what happens to them.
        team: that trains on them, once it is made.
    """

    system: Runtime
    events: Events
    team: Team | None = None

    def wait_for_one(self) -> None:
        """Waits until an island is there; as of `Members`."""
        assert self.team is not None
        self.team.members.wait_for_one()


@contextlib.contextmanager
def open_islands(
    count: int, cluster: str | None, record: Path, *, cores: int | None = None
) -> Iterator[Islands]:
    """Starts islands, and ends them afterwards.

    Args:
        count: how many, of one device each.
        cluster: None starts processes on this machine; the address of a running Ray, or `auto`,
            starts them there; `local` takes devices of this process.
        record: file that events are appended to.
        cores: on this machine, that each keeps to.

    Raises:
        RunError: Ray is not installed or not there, or has no room for so many; or this process
            has not as many devices.
    """
    with contextlib.ExitStack() as stack:
        if cluster == LOCAL:
            system = stack.enter_context(Runtime(_own_devices(count)))
        else:
            from ...runtime import RayIslands, RayMissing, RayRuntime

            # Islands compile the same programs, and again after each restart.
            os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "jax"))
            try:
                hosts = stack.enter_context(RayIslands(count, address=cluster, cores=cores))
            except RayMissing as error:
                raise RunError(str(error)) from error
            system = stack.enter_context(RayRuntime(hosts=hosts))
        islands = Islands(system, Events(record))
        yield islands
        if islands.team is not None:
            islands.team.close()


def _own_devices(count: int) -> dict[str, list[Device]]:
    devices = jax.local_devices()
    if count > len(devices):
        raise RunError(
            f"{count} islands of one device each, but this process has {len(devices)}: lower "
            f"--islands, leave --cluster out, or set XLA_FLAGS=--xla_force_host_platform_device_"
            f"count={count}"
        )
    return {f"island{n}": [device] for n, device in enumerate(devices[:count])}
