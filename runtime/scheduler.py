"""One total order of enqueuing on an island, a bounded number in flight, and fair shares.

Two programs with collectives that are enqueued in different orders on two devices deadlock, and so
does one order with too many in flight (measured: 64 on CPU). So a *turn*, a short run of nodes, is
enqueued by one thread at a time on all devices, and the gangs in flight stay within a window.

Who has the next turn: the highest priority, then the earliest start tag of start-time fair
queueing (Goyal, Vin and Cheng 1996): a client's tag grows by the turn's cost over its weight. There
is no thread of its own: the one whose turn is next waits for the oldest in flight itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .resources import Island
    from .run import Run

# Turns in flight: enough that the device never waits for a client to wake up, and few enough that
# the order of turns is the order of execution.
ALONE, SHARED = 8, 3
# So many turns a client is not taken to be alone after another had one.
LONG = 16
# A client that was away for a moment gets so many of its turns back.
CREDIT = 8
# Seconds in which a client that wants more work is back after a turn.
GRACE = 3e-4
# Of so many turns of a segment one is timed, with nothing else on the device.
EVERY = 100


class Turn:
    """A run of nodes that is enqueued; entered (`with turn:`), this thread has the island.

    Attributes:
        nodes: (number of the node, an output of it) in order.
        gangs: how many of them run on several devices.
    """

    __slots__ = (
        "_began",
        "_nested",
        "_scheduler",
        "cost",
        "gangs",
        "nodes",
        "run",
        "timed",
        "what",
    )

    def __init__(self, scheduler: GangScheduler, run: Run, what: Any, gangs: int, cost: float):
        self._scheduler, self.cost, self.timed = scheduler, cost, False
        self.run, self.what, self.gangs = run, what, gangs
        self.nodes: deque[tuple[int, Any]] = deque()

    def __enter__(self) -> Turn:
        self._nested = not self._scheduler._enter(self)
        if self.timed:
            try:
                self._scheduler.drain(self.run.system.patience)
            except BaseException:
                self._scheduler._leave(self, False)
                raise
            self._began = time.perf_counter()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if self.timed and self.nodes and kind is None:
                node, array = self.nodes[-1]
                self.run.wait_for(array, node, self.run.system.patience)
                self._scheduler._took(self.what, time.perf_counter() - self._began)
        finally:
            self._scheduler._leave(self, self._nested)


class _Ticket:
    __slots__ = ("client", "earliest", "event", "number")

    def __init__(self, client: Client, earliest: float, number: int):
        self.client, self.earliest, self.number = client, earliest, number
        self.event = threading.Event()


class GangScheduler:
    """Of one island.

    Attributes:
        ended: how many turns have ended.
    """

    def __init__(self, island: Island, window: int, fair: bool = True):
        self.island, self.window, self.fair = island, window, fair
        self._lock = threading.Lock()
        self._holder = 0  # the thread whose turn it is
        self._last: Client | None = None  # who had it last, and until when
        self._left = 0.0
        self._alone = LONG  # turns since another client had one
        self._waiting: list[_Ticket] = []
        self._turns: deque[Turn] = deque()
        self._gangs = 0
        self._now = 0.0  # virtual time
        self._numbers = 0
        self.ended = 0
        self._typical = 1e-4

    def turn(self, run: Run, what: Any, gangs: int, cost: float | None) -> Turn:
        """Entered, it waits for this client's turn; inside, this thread alone enqueues here.

        Entered inside a turn of the same thread (what a node calls may run programs) it is part
        of that.

        Args:
            run: whose nodes these are.
            what: a plan's segment, whose `seconds` is kept up to date; or None. Where others
                want the island too, a segment is timed by itself now and then.
            gangs: how many nodes run on several devices.
            cost: seconds it is thought to take; None is not known.

        Raises:
            Cancelled, IslandLost: while it waited.
        """
        return Turn(self, run, what, gangs, self._typical if cost is None else cost)

    def _leave(self, turn: Turn, nested: bool) -> None:
        with self._lock:
            if turn.nodes:
                self._turns.append(turn)
                self._gangs += turn.gangs
            if not nested:
                self._holder, self._left = 0, time.perf_counter()
                self._wake()

    def post(self) -> None:
        """A run has enqueued what it can: where that only waits for more to go with, it goes."""

    def _took(self, what: Any, seconds: float) -> None:
        old = what.seconds
        what.seconds = seconds if old is None else (old + seconds) / 2
        self._typical = 0.8 * self._typical + 0.2 * seconds

    def _enter(self, turn: Turn) -> bool:
        """Waits for the turn; false if this thread has one already."""
        run, gangs, cost = turn.run, turn.gangs, turn.cost
        client = run.client
        if self._holder == threading.get_ident():
            self._wait_for_room(run, gangs)
            return False
        with self._lock:
            if client is self._last:
                soon = time.perf_counter() - self._left < GRACE
                client.prompt = 0.9 * client.prompt + 0.1 * soon
            earliest = self._now - CREDIT * cost / client.weight
            free = not self._holder and not self._waiting and not self._grace(client, earliest)
            if free and self._room(client, gangs):
                self._grant(client, earliest, cost)
                return True
            self._numbers += 1
            mine = _Ticket(client, earliest, self._numbers)
            self._waiting.append(mine)
        try:
            while True:
                with self._lock:
                    best = self._best()
                    grace = self._grace(client, earliest) if best is mine else 0.0
                    if grace:
                        leads = False
                    elif best is mine and not self._holder:
                        if self._room(client, gangs):
                            self._waiting.remove(mine)
                            self._grant(client, earliest, cost)
                            turn.timed = self.fair and self._due(turn.what, client)
                            return True
                        leads = True
                    else:
                        leads = False
                        if best is not mine and not self._holder:
                            best.event.set()
                    mine.event.clear()
                run.check_going()
                if leads:
                    self.wait_oldest(run.system.patience)
                else:
                    mine.event.wait(grace or 0.2)
        except BaseException:
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                self._wake()
            raise

    def _due(self, what: Any, client: Client) -> bool:
        """Whether it is to be timed: the device is busy, and shares are at stake."""
        if what is None or not self._shared(client):
            return False
        what.turns += 1
        return what.turns <= 2 or what.turns % EVERY == 0

    def _wait_for_room(self, run: Run, gangs: int) -> None:
        while True:
            with self._lock:
                if self._room(run.client, gangs):
                    return
            self.wait_oldest(run.system.patience)

    def _tag(self, client: Client, earliest: float) -> float:
        return max(earliest, client.finish.get(self.island.name, 0.0)) if self.fair else 0.0

    def _best(self) -> _Ticket:
        # Tags are of this moment: of a client's threads only one is next, and the others follow it.
        return min(
            self._waiting,
            key=lambda t: (-t.client.priority, self._tag(t.client, t.earliest), t.number),
        )

    def _grant(self, client: Client, earliest: float, cost: float) -> None:
        tag = self._tag(client, earliest)
        self._alone = 0 if self._changes(client) else self._alone + 1
        self._holder, self._last = threading.get_ident(), client
        self._now = max(self._now, tag)
        client.finish[self.island.name] = tag + cost / client.weight

    def _grace(self, best: Client, earliest: float) -> float:
        """How long who is next waits for one with a better right that had the last turn.

        Where a turn is short, its thread may just not be back yet with the next; so it is waited
        for, if it is one that mostly comes (anticipatory scheduling, Iyer and Druschel 2001).
        """
        last = self._last
        if (
            not self.fair
            or last is None
            or last is best
            or last.closed
            or last.prompt < 0.5
            or last.priority < best.priority
            or any(ticket.client is last for ticket in self._waiting)
            or self._tag(last, 0.0) >= self._tag(best, earliest)
        ):
            return 0.0
        return max(0.0, self._left + GRACE - time.perf_counter())

    def _wake(self) -> None:
        if self._waiting:
            self._best().event.set()

    def _room(self, client: Client, gangs: int) -> bool:
        self._retire()
        if gangs and self._gangs and self._gangs + gangs > self.window:
            return False
        alone = self._alone >= LONG and not self._changes(client) and not self._shared(client)
        return len(self._turns) < (ALONE if alone else SHARED)

    def _changes(self, client: Client) -> bool:
        return self._last is not None and self._last is not client

    def _shared(self, client: Client) -> bool:
        return any(ticket.client is not client for ticket in self._waiting)

    def _retire(self) -> None:
        """Forgets turns that are finished; under the lock.

        A donated output tells nothing: its turn is finished when a later one is.
        """
        finished = 0
        for place, turn in enumerate(self._turns):
            nodes, state = turn.nodes, None
            while nodes:
                node, array = nodes[0]
                state = _state(array)
                if state is True:
                    turn.run.look(node, array)
                elif state is False or len(nodes) == 1:
                    break
                nodes.popleft()
            if not nodes:
                finished = place + 1
            elif state is False:
                break
        for _ in range(finished):
            self._gangs -= self._turns.popleft().gangs
        self.ended += finished

    def wait_oldest(self, patience: float | None = None) -> bool:
        """Waits until something in flight ends; false if nothing is. Called without the lock."""
        with self._lock:
            self._retire()
            oldest = None
            for turn in self._turns:
                oldest = _to_wait_for(turn)
                if oldest:
                    break
            if oldest is None:
                # Only donated outputs: their consumers are not ours to see.
                self.ended += len(self._turns)
                self._gangs = 0
                self._turns.clear()
                return False
        turn, node, array = oldest
        turn.run.wait_for(array, node, patience)
        with self._lock:
            self._retire()
        return True

    def drain(self, patience: float | None = None) -> None:
        """Waits for all that is in flight."""
        while self.wait_oldest(patience):
            pass

    def settle(self) -> None:
        """Forgets what has ended."""
        with self._lock:
            self._retire()

    @property
    def in_flight(self) -> int:
        """Turns that are not known to be finished."""
        with self._lock:
            self._retire()
            return len(self._turns)

    @property
    def gangs(self) -> int:
        """Nodes on several devices in flight."""
        with self._lock:
            self._retire()
            return self._gangs

    @property
    def waiting(self) -> int:
        """Threads that wait for their client's turn."""
        return len(self._waiting)

    def in_flight_names(self) -> list[str]:
        """The oldest node of each turn in flight."""
        with self._lock:
            self._retire()
            return [turn.run.node_name(turn.nodes[0][0]) for turn in self._turns if turn.nodes]


def _to_wait_for(turn: Turn) -> tuple[Turn, int, Any] | None:
    """The last node of a turn that has not ended: so few wake-ups a turn.

    One that has ended, of a turn that has not (they may be on different slices), would be no wait.
    """
    ended = None
    for node, array in reversed(turn.nodes):
        state = _state(array)
        if state is False:
            return turn, node, array
        if state and ended is None:  # since somebody looked
            ended = turn, node, array
    return ended


def _state(array: Any) -> bool | None:
    """Whether it is computed; None if it was donated, by whom and when ever."""
    try:
        return None if array.is_deleted() else array.is_ready()
    except RuntimeError:  # between the two looks
        return None
