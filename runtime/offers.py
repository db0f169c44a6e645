"""The book of what a process has offered: identifiers that were issued, and what became of each.

JAX's transfer server keeps an offer, and its buffers, until it is pulled, and parks a pull of an
identifier that it does not know, both for ever. The book ends both: in the place of an offer that
expired, or of one that never was, it puts an array that is an error and says why. That frees the
buffers at once, and whoever pulls gets the reason.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .carried_errors import error_arrays
from .doors import STEP
from .settled import settled
from .transfer_errors import TransferRefused

# Ended offers that are remembered, to say why a second pull is refused.
REMEMBERED = 100_000
# Seconds that a refusal waits to be pulled; and the most arrays that one is made for.
REFUSAL = 300.0
MOST_ARRAYS = 65_536


class Batch:
    """One tree that was offered, to one peer or several.

    Attributes:
        nbytes: pinned while one of its offers is open.
        open: offers.
        waiting: its arrays, while some are being computed.
        kept: what has to live as long as an offer is open.
    """

    __slots__ = ("kept", "nbytes", "open", "waiting")

    def __init__(self, nbytes: int, count: int, waiting: Sequence[Any], kept: Any = None):
        self.nbytes, self.open, self.waiting, self.kept = nbytes, count, list(waiting), kept

    def ready(self) -> bool:
        """Nothing is being computed any more; if so, the arrays are let go."""
        if self.waiting and all(map(settled, self.waiting)):
            self.waiting = []
        return not self.waiting


class Offer:
    """One identifier.

    Attributes:
        buffers: arrays' buffers in it.
        due: on the monotonic clock, when it expires; None while it is being computed.
    """

    __slots__ = ("batch", "began", "buffers", "due", "expiry")

    def __init__(self, batch: Batch, buffers: int, expiry: float):
        self.batch, self.buffers, self.expiry = batch, buffers, expiry
        self.began = time.monotonic()
        self.due: float | None = None


class OfferBook:
    """Offers of one transfer server. Its methods may be called from any thread.

    Attributes:
        issued, taken, orphans, released, refused: how many, so far; orphans expired unpulled.
        taken_bytes: that were pulled.
    """

    def __init__(self, place: Callable[[int, list[Any], float], None], whose: str):
        self._place, self._whose = place, whose
        self._lock = threading.Lock()
        self._open: dict[int, Offer] = {}
        self._ended: OrderedDict[int, tuple[str, Batch]] = OrderedDict()
        self.issued = self.taken = self.orphans = self.released = self.refused = 0
        self.taken_bytes = 0

    def issue(self, batch: Batch, buffers: int, expiry: float) -> int:
        """A new identifier, which has never been issued before."""
        with self._lock:
            while True:
                found = int.from_bytes(os.urandom(8)) >> 1
                if found and found not in self._open and found not in self._ended:
                    break
            self._open[found] = Offer(batch, buffers, expiry)
            self.issued += 1
        return found

    def forget(self, identifiers: Iterable[int]) -> None:
        """Identifiers whose offer could not be made."""
        with self._lock:
            for identifier in identifiers:
                self._end(identifier, "never offered", free=False)

    def acknowledge(self, identifiers: Iterable[int]) -> None:
        """They were pulled."""
        with self._lock:
            for identifier in identifiers:
                how, batch = self._ended.get(identifier, ("", None))
                if how == "expired" and batch is not None:  # while it was on its way
                    self.orphans -= 1
                    self._count(batch)
                    self._ended[identifier] = ("taken", batch)
                elif (offer := self._end(identifier, "taken", free=False)) is not None:
                    self._count(offer.batch)

    def release(self, identifiers: Iterable[int]) -> None:
        """They will not be pulled; unknown ones are passed over."""
        with self._lock:
            for identifier in identifiers:
                self.released += self._end(identifier, "released") is not None

    def state(self, identifier: int, buffers: int) -> str:
        """Of an identifier that someone is pulling, and has not got.

        Args:
            identifier: as it was asked for.
            buffers: that are pulled.

        Returns:
            "open", "computing", or why it is refused; then the pull gets that as its error.
        """
        with self._lock:
            offer = self._open.get(identifier)
            if offer is not None:
                return "open" if offer.batch.ready() else "computing"
            self.refused += 1
            self._refuse(identifier, min(buffers, MOST_ARRAYS))
            return self._why(identifier)

    def tick(self, now: float) -> float | None:
        """Ends what has expired.

        Returns:
            seconds until it is to be called again; None is never, as things are.
        """
        again: float | None = None
        with self._lock:
            for identifier, offer in list(self._open.items()):
                if offer.due is None and offer.batch.ready():
                    offer.due = now + offer.expiry
                if offer.due is not None and offer.due <= now:
                    self._end(identifier, "expired")
                    self.orphans += 1
                    continue
                left = STEP if offer.due is None else max(offer.due - now, 0.01)
                again = left if again is None else min(again, left)
        return again

    def live(self) -> tuple[int, int, float]:
        """Open offers, the bytes that they pin, and the age of the oldest in seconds."""
        with self._lock:
            batches = {id(offer.batch): offer.batch.nbytes for offer in self._open.values()}
            oldest = min((offer.began for offer in self._open.values()), default=None)
        age = 0.0 if oldest is None else time.monotonic() - oldest
        return len(self._open), sum(batches.values()), age

    def close(self) -> None:
        """Ends all; nothing is refused any more, since nobody is there to be asked."""
        with self._lock:
            for identifier in list(self._open):
                self._end(identifier, "closed", free=False)

    def _end(self, identifier: int, how: str, free: bool = True) -> Offer | None:
        offer = self._open.pop(identifier, None)
        if offer is None:
            return None
        batch = offer.batch
        batch.open -= 1
        if not batch.open:
            batch.kept, batch.waiting = None, []
        self._ended[identifier] = (how, batch)
        while len(self._ended) > REMEMBERED:
            self._ended.popitem(last=False)
        if free:
            self._refuse(identifier, offer.buffers)
        return offer

    def _count(self, batch: Batch) -> None:
        self.taken += 1
        self.taken_bytes += batch.nbytes

    def _why(self, identifier: int) -> str:
        how = self._ended[identifier][0] if identifier in self._ended else ""
        reason = {
            "": "it was never issued here, or long ago",
            "taken": "it was taken: one offer serves one pull, so offer once for each peer",
            "expired": "nobody pulled it in time: pull sooner, or offer with a longer expiry",
            "released": "it was released",
        }.get(how, f"it was {how}")
        return f"{self._whose} refuses identifier {hex(identifier)}: {reason}"

    def _refuse(self, identifier: int, buffers: int) -> None:
        import jax

        error = TransferRefused(self._why(identifier))
        (array,) = error_arrays(error, [jax.ShapeDtypeStruct((), "float32")])
        self._place(identifier, [array] * buffers, REFUSAL)


def place_on(server: Any) -> Callable[[int, list[Any], float], None]:
    """How a book puts arrays under an identifier, in place of what is there."""

    def place(identifier: int, arrays: list[Any], seconds: float) -> None:
        until = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
        try:
            # Looked at when the next offer is made: so refusals do not heap up.
            server.await_pull(identifier, arrays, timeout=until)
        except TypeError:  # a JAX that has no limits there
            server.await_pull(identifier, arrays)

    return place
