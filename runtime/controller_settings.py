"""What a cluster is to be. Imports no JAX."""

from __future__ import annotations

import dataclasses
import json

from .attach_state import DEFAULT


@dataclasses.dataclass(frozen=True)
class ControllerSettings:
    """Of the process that owns a cluster's runtime.

    Attributes:
        name: of the cluster.
        islands: how many.
        devices: of each, on CPU; of other hardware an island has what Ray gives it.
        local: islands are shares of the controller's own devices; no Ray is needed.
        ray: address of a running Ray; empty starts one for the cluster alone.
        listen: where clients come in: `host` or `host:port`.
        memory_budget: bytes of each island; 0 is no limit.
        patience: seconds until all of it must be there.
    """

    name: str = DEFAULT
    islands: int = 2
    devices: int = 1
    local: bool = False
    ray: str = ""
    listen: str = "127.0.0.1"
    memory_budget: int = 0
    patience: float = 180.0

    def __post_init__(self) -> None:
        if self.islands < 1 or self.devices < 1 or self.memory_budget < 0:
            raise ValueError(
                f"islands={self.islands}, devices={self.devices}, memory_budget="
                f"{self.memory_budget}: islands and devices are 1 or more, a budget 0 or more"
            )
        if not self.patience > 0:
            raise ValueError(f"patience={self.patience:g}: seconds above 0")
        if self.local and self.ray:
            raise ValueError(f"local islands are in one process, and ray={self.ray!r} is given")
        port = self.listen.rpartition(":")[2] if ":" in self.listen else "0"
        if not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"listen={self.listen!r}: a host, or host:port")

    @property
    def place(self) -> tuple[str, int]:
        """Host and port to listen at; port 0 is any."""
        host, colon, port = self.listen.rpartition(":")
        return (host, int(port)) if colon else (self.listen, 0)

    def to_json(self) -> str:
        """For the command line of the controller's process."""
        return json.dumps(dataclasses.asdict(self))
