"""A direct way into an island's process: small messages over a socket of their own.

A call by Ray takes either side half a millisecond of CPU, a message here a small part of that. Who
may come in knows a key, which Ray tells whom it lets in; both sides prove that they know it (the
challenge of `multiprocessing.connection`) before anything is read.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any, NamedTuple

# Seconds for either side to prove what it knows.
PROOF = 10
# Of those who have not done so yet there may be so many at a time.
STRANGERS = 64


class Entrance(NamedTuple):
    """Where a process listens, and what is to be known there."""

    host: str
    port: int
    key: bytes

    def connect(self, purpose: tuple[Any, ...]) -> Connection:
        """A connection.

        Args:
            purpose: what it is for, which the other side is told first.

        Raises:
            OSError: nobody listens there.
            AuthenticationError: somebody else does.
        """
        found = _connection(socket.create_connection((self.host, self.port), PROOF))
        try:
            answer_challenge(found, self.key)
            deliver_challenge(found, self.key)
            found.send(purpose)
        except EOFError:
            found.close()
            raise AuthenticationError(f"{self.host}:{self.port} does not take the key") from None
        except BaseException:
            found.close()
            raise
        _patient(found)
        return found


class Listening:
    """Lets those in who know the key; each is served in a thread of its own.

    Attributes:
        entrance: for others.
    """

    def __init__(self, host: str, serve: Callable[[tuple[Any, ...], Connection], None]):
        """Args:
        host: the address to listen at.
        serve: called with a connection and what it is for; the connection is closed when it
            returns or raises `EOFError` or `OSError`.
        """
        self._serve = serve
        self._socket = socket.create_server((host, 0))
        self._strangers = threading.BoundedSemaphore(STRANGERS)
        port = self._socket.getsockname()[1]
        self.entrance = Entrance(host, port, secrets.token_bytes(32))
        threading.Thread(target=self._listen, name="byways entrance", daemon=True).start()

    def close(self) -> None:
        """Lets nobody in any more; who is in stays."""
        with contextlib.suppress(OSError):  # else `accept` would wait on
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            try:
                came, _ = self._socket.accept()
            except OSError:
                if self._socket.fileno() < 0:
                    return
                continue  # it went away again
            if self._strangers.acquire(blocking=False):
                threading.Thread(target=self._let_in, args=(came,), daemon=True).start()
            else:
                came.close()

    def _let_in(self, came: socket.socket) -> None:
        found = _connection(came)
        with found, contextlib.suppress(EOFError, OSError):
            try:
                deliver_challenge(found, self.entrance.key)
                answer_challenge(found, self.entrance.key)
                purpose = found.recv()
            except AuthenticationError:
                return
            finally:
                self._strangers.release()
            _patient(found)
            self._serve(purpose, found)


def _connection(found: socket.socket) -> Connection:
    """Of a socket, which waits `PROOF` seconds at most for now."""
    found.settimeout(None)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _wait_at_most(found, PROOF)
    return Connection(found.detach())


def _patient(found: Connection) -> None:
    """Waits as long as it takes."""
    with socket.socket(fileno=os.dup(found.fileno())) as same:
        _wait_at_most(same, 0)


def _wait_at_most(found: socket.socket, seconds: int) -> None:
    for what in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        found.setsockopt(socket.SOL_SOCKET, what, struct.pack("ll", seconds, 0))
