"""Where processes that move arrays ask each other what became of them: one thread, small messages.

A line of JSON each way over TCP. Questions are about identifiers, which the asker must know; there
is nothing else to be had at a door. `ask` [[identifier, buffers], …] is answered by `told`
[[identifier, state], …]; `done` and `release` [identifier, …] are not answered.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from .faults import said

LONGEST = 1 << 20  # bytes of a message
MOST = 1024  # of visitors at a time, and of identifiers in a message
STEP = 0.1  # seconds between looks while something is under way
IDLE = 2.0  # and while nothing is


@runtime_checkable
class Host(Protocol):
    """Whose door it is."""

    def tick(self) -> float | None:
        """What is to be done now; seconds until the next time, None is when woken."""
        ...

    def asked(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """A visitor's message, and what is answered.

        Raises:
            ValueError, TypeError, KeyError: it is not understood.
        """
        ...


class Line:
    """A connection to another's door; used by the door's thread alone.

    Attributes:
        gone: the other end does not exist any more, and why; "" while it may.
        waiting: since when an answer is, on the monotonic clock; None if none is.
        unsent: bytes that are still to go.
    """

    def __init__(self, door: Door, address: str, told: Callable[[dict[str, Any]], None]):
        self._door, self._told = door, told
        self.gone, self.waiting = "", None
        self._in, self.unsent = b"", b""
        host, _, port = address.rpartition(":")
        try:
            where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(where[0], socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.connect_ex(where[4])
        except (OSError, ValueError, OverflowError) as error:
            self.gone = f"no connection to its door {address}: {error}"
            return
        door.watch(self._socket, self._turn, writing=True)

    def send(self, message: dict[str, Any], answered: bool = False) -> None:
        """As soon as it can be."""
        if self.gone:
            return
        self.unsent += json.dumps(message).encode() + b"\n"
        if answered and self.waiting is None:
            self.waiting = time.monotonic()
        self._door.watch(self._socket, self._turn, writing=True)

    def close(self) -> None:
        """May be called twice."""
        if not self.gone:
            self._lost("it was closed")

    def _lost(self, why: str) -> None:
        self.gone = why
        self._door.unwatch(self._socket)

    def _turn(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    raise OSError(failed, "cannot connect")
                if self.unsent:
                    self.unsent = self.unsent[self._socket.send(self.unsent) :]
                if not self.unsent:
                    self._door.watch(self._socket, self._turn, writing=False)
            if events & selectors.EVENT_READ:
                read = self._socket.recv(1 << 16)
                if not read:
                    raise OSError("its door was closed")
                *lines, self._in = (self._in + read).split(b"\n")
                if lines:
                    self.waiting = None
                for line in lines:
                    self._told(json.loads(line))
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(str(error))
        except Exception as error:  # whatever it sent
            self._lost(f"it answers what is not understood ({said(error)})")


class Door:
    """Listens, and is the thread in which all that concerns other processes is looked after.

    Attributes:
        address: `host:port`.
    """

    def __init__(self, host: Host, listen: str):
        self._host = weakref.ref(host)
        family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        self._listener = socket.create_server((listen, 0), family=family, backlog=128)
        self._listener.setblocking(False)
        port = self._listener.getsockname()[1]
        self.address = f"[{listen}]:{port}" if ":" in listen else f"{listen}:{port}"
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        for one in (self._waker, self._woken):
            one.setblocking(False)
        self._visitors = 0
        self._stopping = self._asleep = self._called = False
        self.watch(self._woken, self._wake_up)
        self.watch(self._listener, self._let_in)
        self._thread = threading.Thread(target=self._run, name="byways transfers", daemon=True)

    def start(self) -> None:
        """Begins to answer; only when the host is whole."""
        self._thread.start()

    def wake(self) -> None:
        """Has the host's `tick` called soon; costs next to nothing while it is awake anyway."""
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(OSError):
                self._waker.send(b"x")

    def close(self, patience: float = 2.0) -> None:
        """Ends the thread, and closes all connections."""
        self._stopping = self._asleep = True
        self.wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(patience)

    def watch(self, one: socket.socket, turn: Callable[[int], None], writing: bool = False) -> None:
        """Calls `turn` whenever there is something to read, or room to write."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        known = self._selector.get_map().get(one)
        if known is None:
            self._selector.register(one, events, turn)
        elif known.events != events:
            self._selector.modify(one, events, turn)

    def unwatch(self, one: socket.socket) -> None:
        """And closes it."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(one)
        one.close()

    def _run(self) -> None:
        try:
            due = 0.0
            while not self._stopping:
                if self._called or time.monotonic() >= due:
                    pause = self._look()
                    if pause is None:
                        return
                    due = time.monotonic() + pause
                for key, events in self._selector.select(max(0.0, due - time.monotonic())):
                    key.data(events)
        finally:
            for key in list(self._selector.get_map().values()):
                self.unwatch(key.fileobj)  # pyright: ignore[reportArgumentType]
            self._waker.close()
            self._selector.close()

    def _look(self) -> float | None:
        """Has the host look after all that is under way; seconds until it is to do so again."""
        self._called, self._asleep = False, True  # before looking: what comes from here on wakes
        host = self._host()
        if host is None:
            return None
        try:
            pause = host.tick()
        except Exception as error:  # else every wait would lose its end, unseen
            warnings.warn(f"transfers: {said(error)}", RuntimeWarning, stacklevel=1)
            pause = IDLE
        if pause is not None and pause <= STEP:
            self._asleep = False  # up again soon enough
        return IDLE if pause is None else min(pause, IDLE)

    def _wake_up(self, _: int) -> None:
        self._called = True
        with contextlib.suppress(OSError):
            self._woken.recv(1 << 10)

    def _let_in(self, _: int) -> None:
        try:
            visitor, _ = self._listener.accept()
        except OSError:
            return
        if self._visitors >= MOST:
            visitor.close()
            return
        visitor.setblocking(False)
        self._visitors += 1
        kept = [b"", b""]  # what was read of a message, and what is to be written

        def turn(events: int) -> None:
            try:
                if events & selectors.EVENT_READ:
                    read = visitor.recv(1 << 16)
                    *lines, kept[0] = (kept[0] + read).split(b"\n")
                    if not read or len(kept[0]) > LONGEST or len(kept[1]) > LONGEST:
                        raise OSError("gone, or talks too much")
                    for line in lines:
                        kept[1] += self._answer(line)
                if kept[1]:
                    with contextlib.suppress(BlockingIOError):
                        kept[1] = kept[1][visitor.send(kept[1]) :]
                self.watch(visitor, turn, writing=bool(kept[1]))
            except BlockingIOError:
                return
            except Exception:  # whatever it sent; others are not to feel it
                self._visitors -= 1
                self.unwatch(visitor)

        self.watch(visitor, turn)

    def _answer(self, line: bytes) -> bytes:
        host = self._host()
        answer = None if host is None else host.asked(json.loads(line))
        return b"" if answer is None else json.dumps(answer).encode() + b"\n"
