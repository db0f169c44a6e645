"""Islands that are lost are started again in the background, and compile what they will need."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ...runtime import Runtime
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
        warm: compiles what an island that is back will run; an error of it is told.
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
                return bool(self.back)  # it may have come since the look
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
            except Exception as error:  # of any kind: else the thread would end, and nobody know
                if self._closed.is_set():
                    return
                said = f"{type(error).__name__}: {error}"
                if self._system.islands[name].lost:
                    text = f"does not start again (attempt {attempt} of {ATTEMPTS}): {said}"
                    self._tell("no restart", name, text, attempt=attempt, error=said)
                    continue
                # Another may have been lost meanwhile. If not, the next step meets the error.
                text = f"has not compiled what it will run, and does so at its next step: {said}"
                self._tell("not compiled", name, text, error=said)
            if not self._closed.is_set():
                seconds = time.monotonic() - began
                text = f"is there again, after {seconds:.1f} s"
                self._tell("started", name, text, seconds=round(seconds, 3))
                self.back.append(name)
            return

    def _tell(self, event: str, name: str, text: str, **facts: Any) -> None:
        self._events.add(event, f"{name} {text}", island=name, **facts)
