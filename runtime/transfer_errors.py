"""What can go wrong between two processes, each with the peer and the identifier it concerns."""

from __future__ import annotations

from .errors import IslandLost, RuntimeFault, RunTimeout


class TransferError(RuntimeFault):
    """Arrays cannot be moved between these processes."""


class TransferRefused(TransferError, LookupError):
    """The peer gives nothing for the identifier: never issued, taken, expired or released."""


class TransferTimeout(TransferError, RunTimeout):
    """The peer was silent, or its bytes did not come, for as long as one was to wait."""


class PeerLost(TransferError, IslandLost):
    """The process at the other end is gone, and with it what it offered."""


class StoreMissing(TransferError):
    """Ray's object store was asked for by name, where there is none."""
