"""The way to an island's actors: messages that are not waited for, and questions that are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .errors import IslandLost
from .faults import said
from .ray_actor import ask, tell
from .ray_gang_news import Gang
from .ray_start import the_ray

# Seconds between looks whether whoever is asked is still there.
LOOK = 0.5


class RayLine:
    """To the actors of one island; a message goes to all of them, and so do most questions.

    The question for news is answered by a thread of its own within a quarter of a second, whatever
    the island computes or compiles; so it is the island's heartbeat.

    Attributes:
        silence: seconds without an answer to it after which the island counts as lost.
    """

    def __init__(self, name: str, actors: Sequence[Any], claim: dict[str, Any]):
        """Args:
        name: the island's.
        actors: that are its hosts.
        claim: of this controller, which the island knows.
        """
        self.silence: float = claim["silence"]
        self._name, self._actors, self._claim = name, list(actors), claim["id"]
        self._sends = [tell(actor, "take_message") for actor in actors]
        self._gang = Gang(name, len(actors), self.silence)
        self._ended = False

    def send(self, number: int, first: int, ops: list[tuple]) -> None:
        """A message; Ray keeps their order.

        Raises:
            IslandLost: some of the island's processes have it and others do not.
            whatever Ray raises, such as that its store is full.
        """
        for place, send in enumerate(self._sends):
            try:
                send(self._claim, number, first, ops)
            except Exception as error:
                if not place:
                    raise
                raise IslandLost(
                    f"island {self._name!r} is lost: not all of its processes can be told what "
                    f"to do ({said(error)})"
                ) from None

    def ask(self, what: str, *args: Any) -> Any:
        """Waits for the answer as long as the island lives.

        Raises:
            IslandLost: an actor is gone, or silent.
        """
        ray = the_ray()
        given = (self._claim, *args) if what == "news" else args
        try:
            answers = [ask(actor, what)(*given) for actor in self._actors]
            told = self._answered(ray, answers, self.silence if what == "news" else None)
        except ray.exceptions.RayTaskError as error:
            why = said(error.cause or error)
            raise IslandLost(f"island {self._name!r} is lost: {why}") from None
        except ray.exceptions.RayError as error:
            raise IslandLost(f"island {self._name!r} is lost: {said(error)}") from None
        return told[0] if len(told) == 1 else self._gang.one_of(what, told, time.monotonic())

    def end(self) -> None:
        """Nobody waits for it any more."""
        self._ended = True

    def _answered(self, ray: Any, answers: list[Any], silence: float | None) -> list[Any]:
        # By looks and not by the clock: if this process slept, the island was not silent.
        look = LOOK if silence is None else min(LOOK, silence / 4)
        looks = 0
        while True:
            try:
                return ray.get(answers, timeout=look)
            except ray.exceptions.GetTimeoutError:
                looks += 1
            if self._ended:
                raise IslandLost(f"island {self._name!r} is lost: its process was ended")
            if silence is not None and looks * look >= silence:
                raise IslandLost(
                    f"island {self._name!r} is lost: its process is there and has been silent for "
                    f"{looks * look:g} s (stopped, or without a core?); silence= says how long "
                    "is too long"
                )
