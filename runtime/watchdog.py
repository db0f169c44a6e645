"""Says what is in flight where nothing has moved for a while."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .system import Runtime


class Watchdog:
    """A thread that sleeps, and warns once for each standstill."""

    def __init__(self, system: Runtime, seconds: float):
        self._system, self._seconds = weakref.ref(system), seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="byways watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()

    def _watch(self) -> None:
        seen: dict[str, tuple[int, float]] = {}  # by island: turns ended, and since when
        while not self._stopped.wait(self._seconds / 4):
            system = self._system()
            if system is None:
                return
            now = time.monotonic()
            for name, scheduler in list(system.schedulers.items()):
                waiting = scheduler.in_flight_names()
                ended, since = seen.get(name, (-1, now))
                if not waiting or scheduler.ended != ended:
                    seen[name] = (scheduler.ended, now)
                elif now - since >= self._seconds:
                    seen[name] = (ended, float("inf"))  # once
                    warnings.warn(
                        f"island {name!r} has ended nothing for {self._seconds:g} s; in flight: "
                        + ", ".join(waiting),
                        RuntimeWarning,
                        stacklevel=1,
                    )
            del system
