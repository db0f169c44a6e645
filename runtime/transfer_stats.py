"""An account of what a process has moved to and from others, for a live view."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TransferStats:
    """What a process has moved, and what is under way. Bytes are of whole arrays.

    Attributes:
        offers: open now.
        pinned: bytes that they keep in memory; one tree offered to several counts once.
        oldest: seconds since the oldest of them was made.
        pulls: under way now.
        pulling: their bytes.
        issued: identifiers, ever.
        taken, taken_bytes: offers that were pulled.
        orphans: offers that expired, since nobody pulled them.
        released: offers that were given back.
        pulled, pulled_bytes: pulls that came in whole.
        refused: pulls of ours that a peer refused, and of others that we did.
        timed_out, peers_lost: connections that were given up, by reason.
    """

    offers: int
    pinned: int
    oldest: float
    pulls: int
    pulling: int
    issued: int
    taken: int
    taken_bytes: int
    orphans: int
    released: int
    pulled: int
    pulled_bytes: int
    refused: int
    timed_out: int
    peers_lost: int
