"""The one controller of a cluster: it owns the runtime, and clients come and go."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from typing import Any

from .attach_wire import Line, accept, refuse, welcome
from .controller_names import NamedValues
from .controller_programs import SharedPrograms, SharedSlices
from .controller_session import Session
from .controller_status import status
from .system import Runtime

# Seconds between signs of life to each client.
BEAT = 1.0
# Of those who have not said yet who they are there may be so many at a time; others wait.
STRANGERS = 64


class Controller:
    """Of a runtime. It serves clients at the other ends of lines.

    Attributes:
        system: the runtime.
        token: who does not know it is not served.
        sessions: of the clients that are attached.
        names: values that outlive their clients.
        programs: programs, by their code and by name.
        slices: of all clients.
        stopped: set when somebody has asked for the end of it all.
        began: when, in seconds since 1970.
        served: how many clients there have been.
    """

    def __init__(self, system: Runtime, token: str):
        if not token:
            raise ValueError("a controller needs a token: whoever attaches runs code in it")
        self.system, self.token = system, token
        self.sessions: list[Session] = []
        self.names = NamedValues(system)
        self.slices = SharedSlices(system)
        self.programs = SharedPrograms(self.slices)
        self.stopped = threading.Event()
        self.began, self.served = time.time(), 0
        self.about: dict[str, Any] = {}
        self._numbers, self._clients = itertools.count(1), itertools.count(1)
        self._lock = threading.Lock()
        self._strangers = threading.BoundedSemaphore(STRANGERS)
        self._sockets: list[socket.socket] = []
        for work, what in ((self._watch, "watch"), (self._reassure, "alive")):
            threading.Thread(target=work, name=f"byways controller {what}", daemon=True).start()

    def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Takes clients at an address from now on, and returns it.

        Args:
            host: the loopback, unless told otherwise: lines are authenticated, not encrypted.
            port: 0 is any that is free.
        """
        listening = socket.create_server((host, port), backlog=64)
        self._sockets.append(listening)
        threading.Thread(
            target=self._take_lines, args=(listening,), name="byways controller", daemon=True
        ).start()
        return "{}:{}".format(*listening.getsockname()[:2])

    def serve(self, sock: socket.socket) -> None:
        """Serves whoever is at the other end, until they leave; in a thread of its own.

        Waits while there are too many who have not said who they are.
        """
        self._strangers.acquire()
        threading.Thread(
            target=self._serve, args=(Line(sock),), name="byways client", daemon=True
        ).start()

    def status(self) -> dict[str, Any]:
        """What is going on, in numbers and strings."""
        return status(self)

    def next_number(self) -> int:
        """For a value that a client has not numbered itself."""
        return next(self._numbers)

    def left(self, session: Session) -> None:
        """A client has."""
        with self._lock:
            if session in self.sessions:
                self.sessions.remove(session)
        self.programs.leave(session)

    def close(self, why: str = "was taken down") -> None:
        """All clients are told; ends the runtime. May be called twice."""
        self.stopped.set()
        for listening in self._sockets:
            with contextlib.suppress(OSError):  # else `accept` would wait on, and take one more
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
        sessions = list(self.sessions)
        for session in sessions:
            session.end(why)
        for session in sessions:
            session.close()
        self.system.close()

    def _take_lines(self, listening: socket.socket) -> None:
        while not self.stopped.is_set():
            try:
                sock, _ = listening.accept()
            except OSError:
                if self.stopped.is_set() or listening.fileno() < 0:
                    return
                time.sleep(0.1)  # out of file descriptors, perhaps: others may leave
                continue
            self.serve(sock)

    def _serve(self, line: Line) -> None:
        try:
            hello = welcome(line, self.token)
        finally:
            self._strangers.release()
        if hello is None or self.stopped.is_set():
            line.close()
        elif hello.get("versions") is not None:
            self._attach(line, hello)
        else:
            self._be_watched(line)

    def _attach(self, line: Line, hello: dict[str, Any]) -> None:
        try:
            client = self._client(hello)
        except (ValueError, TypeError, OverflowError) as error:
            refuse(line, str(error))
            line.close()
            return
        except KeyError as error:
            refuse(line, f"its greeting says nothing of {error}: attach by rt.attach()")
            line.close()
            return
        session = Session(self, line, client)
        with self._lock:
            self.sessions.append(session)
            self.served += 1
        try:
            accept(line, {"name": client.name})
        except OSError:
            session.close()
        session.run()

    def _client(self, hello: dict[str, Any]) -> Any:
        share = {"weight": float(hello["weight"]), "priority": int(hello["priority"])}
        name = hello.get("name")
        if name is not None:
            return self.system.client(str(name), **share)
        with self._lock:
            usual = name = str(hello["default name"])
            while name in self.system.clients:
                name = f"{usual}-{next(self._clients)}"
            return self.system.client(name, **share)

    def _be_watched(self, line: Line) -> None:
        """Who attaches without versions sends no programs: it asks how things are, or to stop."""
        try:
            accept(line, {"name": ""})
            while True:
                what = line.receive()[0]
                if what == "status":
                    line.send(("status", self.status()))
                elif what == "stop":
                    line.send(("stop", self.status()))
                    self.stopped.set()
        except (EOFError, OSError):
            line.close()

    def _watch(self) -> None:
        while not self.stopped.wait(1.0):
            self.system.poll()

    def _reassure(self) -> None:
        """Not by who watches: what becomes possible there may take its time to be sent."""
        while not self.stopped.wait(BEAT):
            for session in list(self.sessions):
                session.reassure()

    def __enter__(self) -> Controller:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()
