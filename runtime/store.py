"""What is held on each island and for whom; a budget makes what does not fit wait.

JAX frees a buffer when nobody refers to it; this keeps the account: bytes of the outputs of every
run that are not dropped yet, by island and client. A node whose outputs do not fit waits for
earlier nodes to finish and for values to be released (Barham et al. 2022, section 4.6: what cannot
allocate stalls).
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from .errors import StoreFull

if TYPE_CHECKING:
    from .client import Client
    from .resources import Island
    from .run import Run
    from .scheduler import GangScheduler


# How the names of threads begin that let go of nothing by themselves: the runtime's, Ray's, and
# those that Python did not start.
SERVANTS = ("byways", "ray_", "Dummy-")


class Store:
    """Accounts of bytes.

    Attributes:
        budget: bytes of each island, counted over all of its devices; None is no limit.
    """

    # Notes that may wait until somebody asks.
    many = 1000

    def __init__(self, budget: int | None, patience: float):
        self.budget, self.patience = budget, patience
        self._held: dict[str, Counter[str]] = {}
        # A value may die in any thread at any moment, also under our own lock: its note waits here.
        self._notes: deque[tuple[str, str, int]] = deque()
        self._lock = threading.Lock()

    def let_go(self, run: Run, node: int, held: int, client: Client) -> None:
        """A value for users holds its bytes no more."""
        self.note(run.island_name(node), client.name, -held)

    def note(self, island: str, client: str, change: int) -> None:
        """Counts bytes of a running program. Never waits."""
        self._notes.append((island, client, change))
        if len(self._notes) > self.many and self._lock.acquire(blocking=False):
            try:
                self._settle()
            finally:
                self._lock.release()

    def live(self, island: str | None = None) -> int:
        """Bytes that are held, of one island or all."""
        with self._lock:
            self._settle()
            return sum(
                sum(held.values())
                for name, held in self._held.items()
                if island is None or name == island
            )

    def holders(self, island: str) -> dict[str, int]:
        """Bytes by client."""
        with self._lock:
            self._settle()
            return {name: n for name, n in self._held.get(island, {}).items() if n}

    def reserve(
        self, island: Island, run: Run, node: str, need: int, scheduler: GangScheduler
    ) -> None:
        """Waits until `need` bytes fit the island's budget, and counts them.

        Raises:
            StoreFull: they never will, or nothing was released for too long; at once where only
                this thread could release anything.
        """
        if self.budget is None:
            self.note(island.name, run.client.name, need)
            return
        if need > self.budget:
            raise StoreFull(
                f"node {node!r} makes {need:,} bytes, more than the whole budget of "
                f"{self.budget:,} of island {island.name!r}: raise memory_budget, or cut the work"
            )
        end = time.monotonic() + self.patience
        while True:
            with self._lock:
                self._settle()
                held = self._held.setdefault(island.name, Counter())
                if sum(held.values()) + need <= self.budget:
                    self._notes.append((island.name, run.client.name, need))
                    self._settle()
                    return
                others = {n: b for n, b in held.items() if b and n != run.client.name}
            # Runs of its own that wait at a read may drop something, too.
            if scheduler.wait_oldest() or run.client.advance_others(run):
                continue
            if time.monotonic() > end or not (others or _in_company()):
                raise StoreFull(
                    f"node {node!r} needs {need:,} bytes of island {island.name!r}, whose budget "
                    f"is {self.budget:,} and of which are held {self.holders(island.name)}: "
                    "release values, or raise memory_budget"
                )
            run.check_going()
            time.sleep(0.0005)

    def _settle(self) -> None:
        while self._notes:
            island, client, change = self._notes.popleft()
            held = self._held.get(island)
            if held is None:
                held = self._held[island] = Counter()
            held[client] += change
            if not held[client]:
                del held[client]


def _in_company() -> bool:
    """Whether there is another thread, which may hold values and release them."""
    me = threading.current_thread()
    return any(t is not me and not t.name.startswith(SERVANTS) for t in threading.enumerate())
