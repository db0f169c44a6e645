"""What islands tell each other: small words, such as the right to pull arrays."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from typing import Any

from .ray_channel import Entrance


class Mail:
    """From one host to those of other islands: by their entrances, or by Ray."""

    def __init__(self, tell: Callable[[Any, str], Callable[..., Any]]):
        """Args:
        tell: `tell(actor, method)(…)` calls a method by Ray, and does not wait.
        """
        self._tell = tell
        self._peers: dict[str, Sequence[tuple[Any, tuple]]] = {}
        self._ways: dict[tuple[str, int], Connection | None] = {}
        self._lock = threading.Lock()

    def meet(self, peers: Mapping[str, Sequence[tuple[Any, tuple]]]) -> None:
        """Makes islands known: of each of their hosts its actor and its entrance."""
        self._peers.update(peers)

    def post(self, to: str, key: str, what: Any, host: int) -> None:
        """Gives another island's host what is under a key; returns at once."""
        with self._lock:
            if to not in self._peers:
                return  # it is gone
            actor, _ = self._peers[to][host]
            way = self._way(to, host)
            if way is not None:
                try:
                    way.send((key, what))
                    return
                except OSError:
                    self._ways[to, host] = None
        self._tell(actor, "deliver")(key, what)

    def lose(self, to: str) -> None:
        """An island is gone."""
        with self._lock:
            self._peers.pop(to, None)
            for found in [found for found in self._ways if found[0] == to]:
                self._end(found)

    def close(self) -> None:
        """Forgets all of them."""
        with self._lock:
            self._peers.clear()
            for found in list(self._ways):
                self._end(found)

    def _way(self, to: str, host: int) -> Connection | None:
        if (to, host) not in self._ways:
            entrance = Entrance(*self._peers[to][host][1])
            try:
                self._ways[to, host] = entrance.connect(("mail",))
            except (OSError, AuthenticationError):
                self._ways[to, host] = None
        return self._ways[to, host]

    def _end(self, found: tuple[str, int]) -> None:
        way = self._ways.pop(found)
        if way is not None:
            with contextlib.suppress(OSError):
                way.close()
