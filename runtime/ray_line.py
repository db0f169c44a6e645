"""The way to an island's actors: messages that are not waited for, and questions that are."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from .errors import IslandLost
from .faults import said
from .ray_actor import ask, tell
from .ray_gang_news import Gang
from .ray_sending import Sending, entered, polled
from .ray_start import the_ray
from .ray_wire import unpack_error

# Seconds between looks whether whoever is asked is still there.
LOOK = 0.5
# Seconds to hear from Ray why a process does not speak any more.
WHY = 1.0


class RayLine:
    """To the actors of one island; a message goes to all of them, and so do most questions.

    Light messages and questions for news go by the actors' entrances, where there is a way to them,
    all else by Ray. The question for news is answered by a thread of its own within a quarter of a
    second, whatever the island computes or compiles; so it is the island's heartbeat.

    Attributes:
        silence: seconds without an answer to it after which the island counts as lost.
    """

    def __init__(
        self,
        name: str,
        actors: Sequence[Any],
        entrances: Sequence[tuple] | None,
        claim: dict[str, Any],
    ):
        """Args:
        name: the island's.
        actors: that are its hosts.
        entrances: of theirs, in the same order; None if there is no way to them.
        claim: of this controller, which the island knows.
        """
        self.silence: float = claim["silence"]
        self._name, self._actors, self._claim = name, list(actors), claim["id"]
        self._sends = [
            Sending(tell(actor, "take_message"), tell(actor, "want"), self._claim, entrance)
            for actor, entrance in zip(actors, entrances or [None] * len(actors), strict=True)
        ]
        self._news = [entered(entrance, "news", self._claim) for entrance in entrances or ()]
        self._speaks = [polled(way, select.POLLIN) for way in self._news]
        self._gang = Gang(name, len(actors), self.silence)
        self._ended = False

    def send(self, number: int, first: int, ops: list[tuple]) -> None:
        """A message; the island looks at its number, whichever way it comes.

        Raises:
            IslandLost: some of the island's processes have it and others do not.
            whatever Ray raises, such as that its store is full.
        """
        for place, send in enumerate(self._sends):
            try:
                send(number, first, ops)
            except Exception as error:
                if not place:
                    raise
                raise IslandLost(
                    f"island {self._name!r} is lost: not all of its processes can be told what "
                    f"to do ({said(error)})"
                ) from None

    def want(self, op: int) -> None:
        """Somebody waits for an operation."""
        for send in self._sends:
            send.want(op)

    def ask(self, what: str, *args: Any) -> Any:
        """Waits for the answer as long as the island lives.

        Raises:
            IslandLost: an actor is gone, or silent.
        """
        ways = self._news if what == "news" else []
        if ways and all(ways):
            told = self._heard(ways, args)  # pyright: ignore[reportArgumentType]
        elif what == "news":
            told = self._asked(what, (self._claim, *args), self.silence)
        else:
            told = self._asked(what, args, None)
        return told[0] if len(told) == 1 else self._gang.one_of(what, told, time.monotonic())

    def end(self) -> None:
        """Nobody waits for it any more."""
        self._ended = True

    def _heard(self, ways: Sequence[Connection], question: tuple[Any, ...]) -> list[Any]:
        """Answers that came by entrances."""
        told = []
        try:
            for way in ways:
                way.send(question)
            waits = self._patience(self.silence)
            look = 1e3 * min(LOOK, self.silence / 4)
            for way, speaks in zip(ways, self._speaks, strict=True):
                while not speaks.poll(look):
                    next(waits)
                told.append(way.recv())
        except (EOFError, OSError):
            raise IslandLost(f"island {self._name!r} is lost: {self._why()}") from None
        for _, packed in told:
            if packed is not None:
                why = said(unpack_error(packed))
                raise IslandLost(f"island {self._name!r} is lost: {why}")
        return [found for found, _ in told]

    def _asked(self, what: str, given: tuple[Any, ...], silence: float | None) -> list[Any]:
        """Answers that came by Ray."""
        ray = the_ray()
        waits = self._patience(silence)
        look = LOOK if silence is None else min(LOOK, silence / 4)
        try:
            answers = [ask(actor, what)(*given) for actor in self._actors]
            while True:
                try:
                    return ray.get(answers, timeout=look)
                except ray.exceptions.GetTimeoutError:
                    next(waits)
        except ray.exceptions.RayTaskError as error:
            why = said(error.cause or error)
            raise IslandLost(f"island {self._name!r} is lost: {why}") from None
        except ray.exceptions.RayError as error:
            raise IslandLost(f"island {self._name!r} is lost: {said(error)}") from None

    def _why(self) -> str:
        """Of a process that speaks no more; Ray knows, a little later than we do."""
        ray = the_ray()
        try:
            ray.get([ask(actor, "held")() for actor in self._actors], timeout=WHY)
        except ray.exceptions.GetTimeoutError:
            pass
        except ray.exceptions.RayError as error:
            return said(error)
        return "its process was ended" if self._ended else "its process does not speak any more"

    def _patience(self, silence: float | None) -> Iterator[None]:
        """Goes on after each look in vain, as long as there is hope."""
        # By looks and not by the clock: if this process slept, the island was not silent.
        look = LOOK if silence is None else min(LOOK, silence / 4)
        looks = 0
        while True:
            looks += 1
            if self._ended:
                raise IslandLost(f"island {self._name!r} is lost: its process was ended")
            if silence is not None and looks * look >= silence:
                raise IslandLost(
                    f"island {self._name!r} is lost: its process is there and has been silent for "
                    f"{looks * look:g} s (stopped, or without a core?); silence= says how long "
                    "is too long"
                )
            yield
