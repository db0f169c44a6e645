"""Islands that are lost are started again in the background, and compile what they will need."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ...runtime import Runtime, RuntimeFault
from .events import Events

# So often one island is tried to be started after a loss.
ATTEMPTS = 3


class Comebacks:
    """Starts islands again, each in a thread of its own.

    Attributes:
        back: names of those that are there again and not yet taken in.
    """

    def __init__(self, system: Runtime, warm: Callable[[str], None], events: Events):
        """Args:
        system: whose islands.
        warm: compiles what an island that is back will run; errors of the runtime are let be.
        events: where it is told.
        """
        self.back: deque[str] = deque()
        self._system, self._warm, self._events = system, warm, events
        self._threads: dict[str, threading.Thread] = {}
        self._closed = threading.Event()

    def start(self, name: str) -> None:
        """Begins to start an island again; returns at once."""
        thread = threading.Thread(target=self._start, args=(name,), name=f"{name} starts again")
        thread.daemon = True
        self._threads[name] = thread
        thread.start()

    @property
    def coming(self) -> bool:
        """Whether any is being started, or is back and not yet taken in."""
        return bool(self.back) or any(t.is_alive() for t in self._threads.values())

    def wait(self) -> bool:
        """Waits until one is back; false if none will be."""
        while not self.back:
            if not self.coming:
                return False
            time.sleep(0.02)
        return True

    def close(self) -> None:
        """None is started any more."""
        self._closed.set()

    def _start(self, name: str) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            began = time.monotonic()
            try:
                self._system.restart_island(name)
                self._warm(name)
            except RuntimeFault as error:
                if self._closed.is_set():
                    return
                if not self._system.islands[
                    name
                ].lost:  # it came, and what is compiled is another's
                    break
                self._events.add(
                    "no restart",
                    f"{name} does not start again (attempt {attempt} of {ATTEMPTS}): {error}",
                    island=name,
                    attempt=attempt,
                    error=str(error),
                )
                continue
            break
        else:
            return
        seconds = time.monotonic() - began
        if not self._closed.is_set():
            text = f"{name} is there again, after {seconds:.1f} s"
            self._events.add("started", text, island=name, seconds=round(seconds, 3))
            self.back.append(name)
