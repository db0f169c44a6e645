"""A client's end of the line: questions and their answers, calls that wait for no answer, and
what is let go.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import itertools
import threading
import time
from collections import deque
from typing import Any

from .attach_errors import ControllerGone
from .attach_faults import unpack_fault
from .attach_wire import Line
from .errors import RunTimeout, ValueReleased

# So many calls may be on their way to the controller or wait there: it holds their arguments.
WINDOW = 64
# Seconds between signs of life, and after which what was let go is told at the latest.
BEAT = 0.5
# Seconds without any of the controller's, after which it is taken for gone.
SILENCE = 30.0


class Exchange:
    """Everything of a client that its threads know, so that they do not keep the client alive.

    Attributes:
        freed: numbers of values that nobody here refers to any more.
        name: the client's, as the controller has it.
        where: the controller's address, for messages.
    """

    def __init__(self, line: Line, name: str, where: str):
        self.line, self.name, self.where = line, name, where
        self.freed: deque[int] = deque()
        self._numbers, self._asked = itertools.count(1), itertools.count(1)
        self._answers: dict[int, concurrent.futures.Future[Any]] = {}
        self._sent = self._acknowledged = 0
        self._room = threading.Condition()
        self._sending = threading.Lock()
        self._ended: BaseException | None = None
        line.expect(SILENCE)
        thread = functools.partial(threading.Thread, name=f"byways attached {name}", daemon=True)
        self._listener = thread(target=self._listen)
        self._listener.start()
        thread(target=self._beat).start()

    def numbers(self, count: int) -> range:
        """Numbers for values, not used before; they follow each other."""
        with self._sending:
            first = next(self._numbers)
            self._numbers = itertools.count(first + count)
        return range(first, first + count)

    def tell(self, *message: Any) -> None:
        """Sends without waiting for an answer, after all that was sent before.

        Raises:
            ControllerGone: nobody is there any more.
            ValueReleased: this client has left.
        """
        self._check()
        with self._sending:
            try:
                if self.freed:
                    self.line.send(("free", self._taken()))
                self.line.send(message)
            except OSError as error:
                failed = error
            else:
                return
        self._listener.join(5.0)  # which may still read why
        self._end(ControllerGone(f"the controller at {self.where} is gone: {failed}"))
        self._check()

    def call(self, *message: Any) -> None:
        """As `tell`, of what the controller has to work on: waits while it is far behind."""
        with self._room:
            while self._sent - self._acknowledged >= WINDOW and self._ended is None:
                self._room.wait(1.0)
            self._sent += 1
        self.tell(*message)

    def ask(self, what: str, *args: Any, timeout: float | None = None) -> Any:
        """A question, answered after all that was sent before is done.

        Args:
            what: which.
            timeout: seconds; None is as long as the controller is heard of.

        Raises:
            what the controller answers; ControllerGone, ValueReleased; RunTimeout.
        """
        number, answer = next(self._asked), concurrent.futures.Future()
        self._answers[number] = answer
        try:
            self.tell("ask", number, what, *args)
            # The other side bounds its work itself; this is for when it does not.
            ok, found = answer.result(None if timeout is None else timeout + 10)
        except concurrent.futures.TimeoutError:
            raise RunTimeout(f"the controller did not answer {what!r} in {timeout:g} s") from None
        finally:
            self._answers.pop(number, None)
        if not ok:
            raise unpack_fault(found, "by the controller")
        return found

    def close(self) -> None:
        """Leaves. May be called twice."""
        if self._ended is None:
            # Before the other end hangs up.
            self._ended = ValueReleased(f"client {self.name!r} has left: attach again to go on")
            with contextlib.suppress(OSError):  # a courtesy: a controller that is stuck gets none
                self.line.try_send(("leave",), 1.0)
        self.line.close()
        self._wake()

    @property
    def ended(self) -> BaseException | None:
        """Why nothing can be asked any more."""
        return self._ended

    def _check(self) -> None:
        if self._ended is not None:
            raise _again(self._ended)

    def _taken(self) -> list[int]:
        return [self.freed.popleft() for _ in range(len(self.freed))]

    def _listen(self) -> None:
        try:
            while True:
                message = self.line.receive()
                if message[0] == "answer":
                    answer = self._answers.get(message[1])
                    if answer is not None:
                        answer.set_result(message[2:])
                elif message[0] == "done":
                    with self._room:
                        self._acknowledged = message[1]
                        self._room.notify_all()
                elif message[0] == "end":
                    self._end(ControllerGone(f"the controller at {self.where} {message[1]}"))
                    return
        except TimeoutError:
            self._end(
                ControllerGone(
                    f"the controller at {self.where} is alive or not, and has said nothing for "
                    f"{SILENCE:g} s: look with `byways cluster status`"
                )
            )
        except (EOFError, OSError):
            self._end(
                ControllerGone(
                    f"the controller at {self.where} is gone, and with it all that was on its "
                    "islands: look with `byways cluster status`, start one by `byways cluster up`"
                )
            )
        finally:
            self.line.close()  # whoever is still sending is woken

    def _beat(self) -> None:
        while self._ended is None:
            time.sleep(BEAT)
            with contextlib.suppress(OSError), self._sending:
                self.line.send(("free", self._taken()))

    def _end(self, why: BaseException) -> None:
        if self._ended is None:
            self._ended = why
            self.line.close()
            self._wake()

    def _wake(self) -> None:
        """Whoever waits hears that it is over."""
        assert self._ended is not None
        for answer in list(self._answers.values()):
            with contextlib.suppress(concurrent.futures.InvalidStateError):
                answer.set_exception(_again(self._ended))
        with self._room:
            self._room.notify_all()


def _again(error: BaseException) -> BaseException:
    return type(error)(*error.args)
