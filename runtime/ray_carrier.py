"""How arrays go from island to island: by `Transfers`, device to device, without the controller."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from .tickets import Ticket
from .transfers import Transfers

# Seconds that an offer stays open once its arrays are computed: who takes it is already told to,
# but may have other things to do first.
EXPIRY = 600.0
# The last offers to an island that are remembered; older ones were taken, or expire.
REMEMBERED = 1024


class Carrier:
    """Of one island's process."""

    def __init__(self, name: str, devices: Sequence[Any], listen: str):
        self._transfers = Transfers(name, devices=devices, listen=listen)
        self._offered: dict[str, deque[Ticket]] = {}

    def offer(self, arrays: Sequence[jax.Array], to: str) -> str:
        """The right to pull them once, as text; returns at once, computed or not.

        Args:
            to: who is to have it, by name.
        """
        (ticket,) = self._transfers.offer(list(arrays), expiry=EXPIRY)
        self._offered.setdefault(to, deque(maxlen=REMEMBERED)).append(ticket)
        return ticket.to_json()

    def lose(self, peer: str) -> None:
        """It is gone: what it did not pull it never will."""
        self._transfers.release(list(self._offered.pop(peer, ())))

    def pull(self, ticket: str, shardings: Sequence[Sharding]) -> list[jax.Array]:
        """They, as they shall lie here; returns at once, and they are there when they came."""
        first = [device for sharding in shardings[:1] for device in sharding.device_set][:1]
        found = self._transfers.pull(Ticket.from_json(ticket), onto=first).tree
        return jax.device_put(found, list(shardings))

    def stats(self) -> dict[str, Any]:
        """As of `TransferStats`."""
        return dataclasses.asdict(self._transfers.stats())

    def close(self) -> None:
        """Nothing can be pulled from here any more."""
        self._transfers.close()
