"""The line between a client and the controller: who may come in, and messages on it.

Each end knows the cluster's token, and both prove it (`multiprocessing`'s challenges, in which the
token is not sent) before anything else is read. Then the client says what it is of, as JSON, and
only who is of the same versions is sent pickles. Imports no JAX.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import socket
import struct
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

from .attach_errors import AttachError, ControllerGone, VersionMismatch

PROTOCOL = 1
# Seconds that a caller may take to prove that it knows the token, and to say hello.
GREETING = 20.0
# Longer greetings are not read.
LONGEST_HELLO = 65536


class Line:
    """One end of a connection; several threads may send, one receives."""

    def __init__(self, sock: socket.socket):
        if sock.family != socket.AF_UNIX:  # else small messages wait for each other
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(None)
        self._socket, self.connection = sock, Connection(os.dup(sock.fileno()))
        self._lock = threading.Lock()

    def send(self, message: tuple) -> None:
        """A message, pickled.

        Raises:
            OSError: nobody is at the other end any more.
        """
        self.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def send_bytes(self, data: bytes) -> None:
        with self._lock:
            self.connection.send_bytes(data)

    def try_send(self, message: tuple, seconds: float = 0.0) -> bool:
        """A short message, unless others are on their way or the other end does not read.

        Args:
            message: of some hundred bytes, so that it is not sent in part.
            seconds: to wait for either, at most.

        Returns:
            whether it was sent.

        Raises:
            OSError: nobody is at the other end any more.
        """
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            room = select.poll()
            room.register(self.connection.fileno(), select.POLLOUT)
            if not room.poll(seconds * 1000):
                return False
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))
            return True
        finally:
            self._lock.release()

    def receive(self) -> tuple:
        """The next message; waits for it.

        Raises:
            TimeoutError: nothing of it came for as long as `expect` says.
            EOFError, OSError: nobody is at the other end any more.
        """
        try:
            return pickle.loads(self.connection.recv_bytes())
        except BlockingIOError:
            raise TimeoutError("the other end says nothing") from None

    def expect(self, seconds: float) -> None:
        """From now on, something comes at least so often: a message, or more of a long one."""
        # By the kernel, which hears also while this process is stopped, or does not run Python.
        limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

    def close(self) -> None:
        """Who waits at either end is woken by an error. May be called twice."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def __del__(self) -> None:
        self.connection.close()


def versions() -> dict[str, Any]:
    """What client and controller must have in common: functions travel as this Python's code, and
    shapes are traced on both sides.
    """
    import jax

    from .. import __version__

    return {
        "python": "{}.{}".format(*sys.version_info),
        "jax": jax.__version__,
        "byways": __version__,
        "jax_enable_x64": bool(jax.config.read("jax_enable_x64")),
    }


def greet(
    line: Line, token: str, where: str, hello: dict[str, Any], patience: float
) -> dict[str, Any]:
    """The client's half of coming in.

    Args:
        line: to the controller.
        token: the cluster's.
        where: the address, for messages.
        hello: what is said of the client; `versions` among it, unless it only watches.
        patience: seconds.

    Returns:
        what the controller says.

    Raises:
        VersionMismatch: of which both sides are named.
        AttachError: the token is not the cluster's, or no controller of ours is there.
    """
    with _bounded(line, patience) as late:
        try:
            answer_challenge(line.connection, token.encode())
            deliver_challenge(line.connection, token.encode())
            line.send_bytes(json.dumps({"protocol": PROTOCOL, **hello}).encode())
            told = json.loads(line.connection.recv_bytes(LONGEST_HELLO))
        except AuthenticationError:
            raise AttachError(
                f"the controller at {where} does not know this token: give the one in its "
                "cluster's file, or let the file be read (attach() without an address)"
            ) from None
        except Exception as error:
            if late.is_set():
                why = f"it said nothing for {patience:g} s"
            else:
                why = f"{type(error).__name__}: {error}"
            raise AttachError(
                f"what listens at {where} is no controller of byways, or a stuck one ({why}): look "
                "with `byways cluster status`"
            ) from None
    if "refused" in told:
        kind = VersionMismatch if told.get("kind") == "versions" else AttachError
        raise kind(f"the controller at {where} refuses this client: {told['refused']}")
    return told


def welcome(line: Line, token: str) -> dict[str, Any] | None:
    """The controller's half: what a client that knows the token says of itself; None is nobody."""
    with _bounded(line, GREETING):
        try:
            deliver_challenge(line.connection, token.encode())
            answer_challenge(line.connection, token.encode())
            hello = json.loads(line.connection.recv_bytes(LONGEST_HELLO))
        except Exception:  # whatever it was that called, it is none of ours
            return None
    if not isinstance(hello, dict):
        return None
    problem = _mismatch(hello)
    if problem is not None:
        refuse(line, problem, "versions")
        return None
    return hello


def refuse(line: Line, why: str, kind: str = "") -> None:
    """Says why a client does not come in."""
    with contextlib.suppress(OSError):
        line.send_bytes(json.dumps({"refused": why, "kind": kind}).encode())


def accept(line: Line, told: dict[str, Any]) -> None:
    """Says that it does."""
    line.send_bytes(json.dumps(told).encode())


def connect(address: str, patience: float) -> Line:
    """A line to `host:port`.

    Raises:
        AttachError: it is no address.
        ControllerGone: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise AttachError(f"address {address!r}: a controller's is host:port, as `status` shows it")
    try:
        return Line(socket.create_connection((host.strip("[]"), int(port)), patience))
    except (OSError, OverflowError) as error:
        raise ControllerGone(f"no controller listens at {address} ({error})") from None


def _mismatch(hello: dict[str, Any]) -> str | None:
    if hello.get("protocol") != PROTOCOL:
        return (
            f"its messages are of form {hello.get('protocol')}, this controller's of {PROTOCOL}: "
            "use the same byways on both sides"
        )
    theirs = hello.get("versions")
    if theirs is None:  # who watches sends no code
        return None
    if not isinstance(theirs, dict):
        return f"its versions are {theirs!r}, and no names with versions: attach by rt.attach()"
    ours = versions()
    other = [key for key in ours if theirs.get(key) != ours[key]]
    if not other:
        return None
    said = "; ".join(f"{key} is {theirs.get(key)} there and {ours[key]} here" for key in other)
    return (
        f"{said} (there: the client, here: the controller). Use the same on both sides, or start "
        "the cluster again from the client's environment (`byways cluster down`, then `up`)"
    )


@contextlib.contextmanager
def _bounded(line: Line, seconds: float):
    """Closes the line if what is done in it takes longer."""
    late = threading.Event()

    def end() -> None:
        late.set()
        line.close()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
