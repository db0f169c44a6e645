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
# A client that was away for a moment gets so many of its turns back.
CREDIT = 8


class Turn:
    """A run of nodes that is enqueued; entered (`with turn:`), this thread has the island.

    Attributes:
        nodes: (number of the node, an output of it) in order.
        gangs: how many of them run on several devices.
    """

    __slots__ = ("_cost", "_nested", "_scheduler", "gangs", "nodes", "run", "sent", "what")

    def __init__(self, scheduler: GangScheduler, run: Run, what: Any, gangs: int, cost: float):
        self._scheduler, self._cost = scheduler, cost
        self.run, self.what, self.gangs = run, what, gangs
        self.nodes: deque[tuple[int, Any]] = deque()
        self.sent = 0.0

    def __enter__(self) -> Turn:
        self._nested = not self._scheduler._enter(self.run, self.gangs, self._cost)
        return self

    def __exit__(self, *_: Any) -> None:
        self.sent = time.perf_counter()
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
        self._waiting: list[_Ticket] = []
        self._turns: deque[Turn] = deque()
        self._gangs = 0
        self._now = 0.0  # virtual time
        self._numbers = 0
        self._last_done = 0.0
        self.ended = 0
        self._typical = 1e-4

    def turn(self, run: Run, what: Any, gangs: int, cost: float | None) -> Turn:
        """Entered, it waits for this client's turn; inside, this thread alone enqueues here.

        Entered inside a turn of the same thread (what a node calls may run programs) it is part
        of that.

        Args:
            run: whose nodes these are.
            what: a plan's segment, whose `seconds` is kept up to date; or None.
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
                self._holder = 0
                self._wake()

    def _enter(self, run: Run, gangs: int, cost: float) -> bool:
        """Waits for the turn; false if this thread has one already."""
        client = run.client
        if self._holder == threading.get_ident():
            self._wait_for_room(run, gangs)
            return False
        with self._lock:
            earliest = self._now - CREDIT * cost / client.weight
            if not self._holder and not self._waiting and self._room(client, gangs):
                self._grant(client, earliest, cost)
                return True
            self._numbers += 1
            mine = _Ticket(client, earliest, self._numbers)
            self._waiting.append(mine)
        try:
            while True:
                with self._lock:
                    best = self._best()
                    if best is mine and not self._holder:
                        if self._room(client, gangs):
                            self._waiting.remove(mine)
                            self._grant(client, earliest, cost)
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
                    mine.event.wait(0.2)
        except BaseException:
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                self._wake()
            raise

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
        self._holder = threading.get_ident()
        self._now = max(self._now, tag)
        client.finish[self.island.name] = tag + cost / client.weight

    def _wake(self) -> None:
        if self._waiting:
            self._best().event.set()

    def _room(self, client: Client, gangs: int) -> bool:
        self._retire()
        if gangs and self._gangs and self._gangs + gangs > self.window:
            return False
        shared = any(ticket.client is not client for ticket in self._waiting)
        return len(self._turns) < (SHARED if shared else ALONE)

    def _retire(self, observed: bool = False) -> None:
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
        if finished:
            now = time.perf_counter()
            for _ in range(finished):
                turn = self._turns.popleft()
                self._gangs -= turn.gangs
                self.ended += 1
                if observed and turn.what is not None:
                    took = now - max(turn.sent, self._last_done)
                    old = turn.what.seconds
                    turn.what.seconds = took if old is None else 0.8 * old + 0.2 * took
                    self._typical = 0.9 * self._typical + 0.1 * took
                observed = False  # those behind it were not seen to end
            self._last_done = now

    def wait_oldest(self, patience: float | None = None) -> bool:
        """Waits until something in flight ends; false if nothing is. Called without the lock."""
        with self._lock:
            self._retire()
            oldest = None
            for turn in self._turns:
                # The last node: so one wake-up a turn.
                oldest = next(
                    ((turn, n, a) for n, a in reversed(turn.nodes) if _state(a) is not None), None
                )
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
            self._retire(observed=True)
        return True

    def drain(self) -> None:
        """Waits for all that is in flight."""
        while self.wait_oldest():
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

    def in_flight_names(self) -> list[str]:
        """The oldest node of each turn in flight."""
        with self._lock:
            self._retire()
            return [turn.run.node_name(turn.nodes[0][0]) for turn in self._turns if turn.nodes]


def _state(array: Any) -> bool | None:
    """Whether it is computed; None if it was donated, by whom and when ever."""
    try:
        return None if array.is_deleted() else array.is_ready()
    except RuntimeError:  # between the two looks
        return None
