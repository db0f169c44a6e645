"""The way to an island's actor: messages that are not waited for, and questions that are."""

from __future__ import annotations

from typing import Any

from .errors import IslandLost
from .faults import said
from .ray_actor import ask, tell
from .ray_start import the_ray

# Seconds between looks whether whoever is asked is still there.
LOOK = 0.5


class RayLine:
    """To one actor.

    The question for news is answered by a thread of its own within a quarter of a second, whatever
    the island computes or compiles; so it is the island's heartbeat.

    Attributes:
        silence: seconds without an answer to it after which the island counts as lost.
    """

    def __init__(self, name: str, actor: Any, claim: dict[str, Any]):
        """Args:
        name: the island's.
        actor: that has it.
        claim: of this controller, which the island knows.
        """
        self.silence: float = claim["silence"]
        self._name, self._actor, self._claim = name, actor, claim["id"]
        self._send = tell(actor, "take_message")
        self._ended = False

    def send(self, number: int, first: int, ops: list[tuple]) -> None:
        """A message; Ray keeps their order.

        Raises:
            whatever Ray raises, such as that its store is full.
        """
        self._send(self._claim, number, first, ops)

    def ask(self, what: str, *args: Any) -> Any:
        """Waits for the answer as long as the island lives.

        Raises:
            IslandLost: the actor is gone, or silent.
        """
        ray = the_ray()
        try:
            if what != "news":
                return self._answered(ray, ask(self._actor, what)(*args), None)
            answer = ask(self._actor, what)(self._claim, *args)
            return self._answered(ray, answer, self.silence)
        except ray.exceptions.RayTaskError as error:
            why = said(error.cause or error)
            raise IslandLost(f"island {self._name!r} is lost: {why}") from None
        except ray.exceptions.RayError as error:
            raise IslandLost(f"island {self._name!r} is lost: {said(error)}") from None

    def end(self) -> None:
        """Nobody waits for it any more."""
        self._ended = True

    def _answered(self, ray: Any, answer: Any, silence: float | None) -> Any:
        # By looks and not by the clock: if this process slept, the island was not silent.
        look = LOOK if silence is None else min(LOOK, silence / 4)
        looks = 0
        while True:
            try:
                return ray.get(answer, timeout=look)
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
