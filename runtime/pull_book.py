"""The watch over pulls that are under way.

Nothing in JAX ends the wait for bytes that do not come: its limits do not fire, a connection to
nobody is no error, a stopped process is none either. So a pull that is late has its peer asked, and
one that will not come is made to fail: by an error that the peer puts in its place, or by breaking
the connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from .doors import MOST, STEP, Door, Line
from .faults import said
from .links import Link
from .pulls import Pull
from .settled import look
from .tickets import Peer
from .transfer_errors import PeerLost, TransferError, TransferRefused, TransferTimeout

# Seconds after which a pull's peer is asked, and asked again.
LATE, AGAIN = 0.1, 1.0
# Seconds that the door stays awake after a pull: to wake it costs as much as a small one.
LINGER = 0.5
# Seconds that bytes may still come in from a peer that has gone.
LAST_BYTES = 0.1
# Bytes a second below which a transfer counts as standing still.
SLOWEST = 20e6


class PullBook:
    """All pulls of one `Transfers`. Pulls from any thread; `tick` in the door's.

    Attributes:
        pulled, pulled_bytes, refused, timed_out, peers_lost: so far.
    """

    def __init__(self, connect: Callable[[str], Any], door: Door, patience: float):
        self._connect, self._door, self._patience = connect, door, patience
        self._lock = threading.Lock()
        self._links: dict[Peer, Link] = {}
        self._awake = 0.0  # until when
        self._pending: dict[int, Pull] = {}  # by identity: two may pull the same identifier
        self.pulled = self.pulled_bytes = self.refused = self.timed_out = self.peers_lost = 0

    def link(self, peer: Peer) -> Link:
        """To a peer; a new one where the last is broken.

        Raises:
            TransferError: its address is none.
        """
        with self._lock:
            found = self._links.get(peer)
            if found is None or found.broken is not None:
                try:
                    connection = self._connect(peer.data)
                except Exception as error:
                    raise TransferError(f"no connection to {peer}: {said(error)}") from error
                found = self._links[peer] = Link(peer, connection)
            return found

    def watch(self, pull: Pull) -> None:
        """Over a pull that has begun."""
        with self._lock:
            self._pending[id(pull)] = pull
            if pull.link and pull.link.broken is None:  # it may have been dropped just now
                self._links.setdefault(pull.link.peer, pull.link)
            pull.on_arrival = self.arrived
            self._awake = pull.began + LINGER
        self._door.wake()

    def tell(self, peer: Peer, what: str, identifier: int) -> None:
        """The peer, soon, that it was `done` with an identifier, or is to `release` it."""
        link = self.link(peer)
        with self._lock:
            link.finished[what].append(identifier)
        self._door.wake()

    def live(self) -> tuple[int, int]:
        """Pulls under way, and their bytes."""
        with self._lock:
            return len(self._pending), sum(p.ticket.nbytes for p in self._pending.values())

    def tick(self, now: float) -> float | None:
        """Looks at every pull under way; seconds until it is to be called again, None if never."""
        with self._lock:
            pending = list(self._pending.items())
        asks: dict[Link, list[Pull]] = {}
        for key, pull in pending:
            link = pull.link
            assert link is not None
            if pull.done():
                self._finish(key, pull, link)
            elif link.broken is not None:  # began while it broke
                pull.fault = pull.fault or link.broken
                link.fail(link.broken)
            else:
                self._check_late(pull, link, now)
                due = now - pull.began > LATE and (pull.asked is None or now - pull.asked > AGAIN)
                if due and link.broken is None:
                    pull.asked = now
                    asks.setdefault(link, []).append(pull)
        with self._lock:
            self._drop_idle()
            links = dict.fromkeys([*self._links.values(), *asks])
        for link in links:
            self._talk(link, asks.get(link, ()), now)
        return STEP if pending or now < self._awake else None

    def _drop_idle(self) -> None:
        """Of a peer whose door is closed, and from which nothing comes, nothing is kept."""
        busy = {pull.link for pull in self._pending.values()}
        for peer, link in list(self._links.items()):
            closed = link.line is not None and link.line.gone
            if (closed or link.broken) and link not in busy and not any(link.finished.values()):
                del self._links[peer]

    def close(self, error: BaseException) -> None:
        """Fails what is under way, after the door's thread has ended."""
        with self._lock:
            pending, links = list(self._pending.values()), list(self._links.values())
            self._pending.clear()
            self._links.clear()
        for pull in pending:
            if not pull.done():
                pull.fault = pull.fault or error
        for link in links:
            link.fail(error)

    def untold(self) -> bool:
        """Peers are yet to be told of something."""
        with self._lock:
            links = list(self._links.values())
        lines = [link.line for link in links]
        return any(any(link.finished.values()) for link in links) or any(
            line.unsent for line in lines if line is not None and not line.gone
        )

    def arrived(self, pull: Pull) -> None:
        """A pull came in whole: it is let go, so that its memory is its owner's alone.

        A buffer kept until the next look would not be there for the next pull, which would have
        to take cold memory: for some hundred kilobytes that costs as much as their way.
        """
        link = pull.link
        with self._lock:
            if self._pending.pop(id(pull), None) is None or link is None:
                return
            link.moved = time.monotonic()
            link.finished["done"].append(pull.ticket.identifier)
            self.pulled += 1
            self.pulled_bytes += pull.ticket.nbytes

    def _finish(self, key: int, pull: Pull, link: Link) -> None:
        try:
            for array in pull.flat:
                look(array)
        except Exception as error:
            found = pull.failure(error)
        else:
            self.arrived(pull)
            return
        with self._lock:
            self._pending.pop(key, None)
        link.moved = time.monotonic()
        self._count_fault(pull)
        if isinstance(found, PeerLost):
            self._break(link, found)
        elif not isinstance(found, TransferRefused | TransferTimeout):
            # It was taken, with an error in it. Of what was lost on its way one cannot know.
            with self._lock:
                link.finished["done"].append(pull.ticket.identifier)

    def _count_fault(self, pull: Pull) -> None:
        if not pull.counted and isinstance(pull.fault, TransferRefused):
            pull.counted = True
            self.refused += 1

    def _check_late(self, pull: Pull, link: Link, now: float) -> None:
        """Breaks the link if this pull will not come."""
        line = link.line
        what = f"identifier {hex(pull.ticket.identifier)} from {link.peer}"
        waited = now - pull.began
        if line is None:
            return
        if line.gone:
            if link.gone_since is None or now - link.gone_since > AGAIN:
                # It may be the line alone: who is there answers by another.
                link.gone_since, link.line, pull.asked = now, None, None
            elif now - link.gone_since >= LAST_BYTES:
                why = f"peer {link.peer} is gone ({line.gone}), {waited:.1f} s after {what} was "
                self._break(link, PeerLost(why + "pulled"))
        elif line.waiting is not None and now - line.waiting > self._patience:
            self._break(
                link,
                TransferTimeout(
                    f"{what} did not come in {waited:.1f} s, and the peer has answered nothing "
                    f"for {now - line.waiting:.1f} s: it is stopped, or too busy to answer; see "
                    "to it, or be more patient"
                ),
            )
        elif pull.state and pull.state != "computing":
            allowed = self._patience + pull.ticket.nbytes / SLOWEST
            still = now - max(pull.since, link.moved)
            if still > allowed:
                self._break(
                    link,
                    TransferTimeout(
                        f"{what} did not come in {waited:.1f} s: the peer answers, and its data "
                        f"port has sent nothing whole for {still:.1f} s"
                    ),
                )

    def _break(self, link: Link, error: BaseException) -> None:
        if link.broken is not None:
            return
        if isinstance(error, PeerLost):
            self.peers_lost += 1
        else:
            self.timed_out += 1
        with self._lock:
            if self._links.get(link.peer) is link:
                del self._links[link.peer]
            hit = [pull for pull in self._pending.values() if pull.link is link]
        for pull in hit:
            if not pull.done():
                pull.fault = pull.fault or error
        link.fail(error)
        if link.line is not None:
            link.line.close()

    def _talk(self, link: Link, asks: Sequence[Pull], now: float) -> None:
        if link.line is None and not asks and not any(link.finished.values()):
            return
        if link.line is None or link.line.gone:
            link.line = Line(self._door, link.peer.door, lambda told: self._told(link, told))
        with self._lock:
            finished, link.finished = link.finished, {"done": [], "release": []}
        for what, identifiers in finished.items():
            for start in range(0, len(identifiers), MOST):
                link.line.send({what: identifiers[start : start + MOST]})
        for start in range(0, len(asks), MOST):
            part = asks[start : start + MOST]
            ask = [[pull.ticket.identifier, pull.ticket.buffers] for pull in part]
            link.line.send({"ask": ask, "born": link.peer.born}, answered=True)

    def _told(self, link: Link, told: dict[str, Any]) -> None:
        states = {int(identifier): str(state) for identifier, state in told["told"]}
        now = time.monotonic()
        link.gone_since = None
        with self._lock:
            pending = [pull for pull in self._pending.values() if pull.link is link]
        for pull in pending:
            state = states.get(pull.ticket.identifier)
            if state is None or pull.done():
                continue
            if state != pull.state:
                pull.state, pull.since = state, now
            if state not in ("open", "computing"):
                pull.fault = pull.fault or TransferRefused(state)
                self._count_fault(pull)
