"""Ctrl-C: the first asks to stop after this step, the second stops now."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any


class Interrupts:
    """While entered, SIGINT and SIGTERM set a flag once and raise the second time.

    Args:
        what: is done after the first, for people.

    Attributes:
        requested: the name of the signal that asked to stop, or None.

    Examples:
        >>> with Interrupts() as interrupts:
        ...     interrupts.requested is None
        True
    """

    def __init__(self, what: str = "saving and stopping after this step") -> None:
        self._what = what
        self.requested: str | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Signal handlers belong to the main thread; elsewhere the flag is simply never set.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.requested is not None:
            raise KeyboardInterrupt(name)
        self.requested = name
        sys.stderr.write(f"\n{name}: {self._what} (again to stop now)\n")
        sys.stderr.flush()
