"""One request for tokens, from when it is submitted until its last token."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from .callbacks import tell
from .errors import RequestCancelled

# Why a request has no more tokens: as many as were wanted, or the one that ends it.
Reason = Literal["length", "end"]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What `models.generate` would be asked for, of one prompt.

    Attributes:
        prompt: tokens, one or more.
        steps: tokens to make at most.
        temperature: 0 takes the likeliest token each time.
        top_k: draws among so many of the likeliest only; None is all.
        seed: of the draws.
        end: the token that ends it; it is the last one of what is made.
    """

    prompt: tuple[int, ...]
    steps: int
    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0
    end: int | None = None


class Generation:
    """A request, and what has become of it; safe to use from any thread.

    Attributes:
        number: of the request, counted by its engine.
        wanted: what was asked for.
        keys: the data of a random key for each token; zeros where nothing is drawn.
        attempts: how often it had to begin again, because an island was lost.
        reason: why it has ended; None as long as it goes on, or where it failed.
        submitted, first, ended: by `time.perf_counter`; None until then.
    """

    def __init__(self, number: int, wanted: Wanted, keys: np.ndarray):
        self.number, self.wanted, self.keys = number, wanted, keys
        self.attempts = 0
        self.reason: Reason | None = None
        self.submitted = time.perf_counter()
        self.first: float | None = None
        self.ended: float | None = None
        self._tokens: list[int] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._cancel: Callable[[Generation], None] | None = None
        self._when_done: list[Callable[[Generation], None]] = []

    # For who asked.

    @property
    def tokens(self) -> list[int]:
        """Those that are known by now."""
        return list(self._tokens)

    @property
    def done(self) -> bool:
        """It has ended, well or not."""
        return self.ended is not None

    def stream(self, timeout: float | None = None) -> Iterator[int]:
        """Each token when it is known.

        Args:
            timeout: seconds to wait for any one of them; None is no limit.

        Raises:
            TimeoutError: it did not come in time; stream again to go on from the first.
            ServingError: it will not be served to its end.
        """
        place = 0
        while True:
            with self._changed:
                if not self._changed.wait_for(
                    lambda place=place: len(self._tokens) > place or self.done, timeout
                ):
                    raise TimeoutError(f"token {place} of {self!r} was not there after {timeout} s")
                if place >= len(self._tokens):
                    break
                token = self._tokens[place]
            yield token
            place += 1
        if self._error is not None:
            raise self._error

    def result(self, timeout: float | None = None) -> list[int]:
        """All tokens, when the last is known.

        Args:
            timeout: seconds to wait for all of them; None is no limit.

        Raises:
            TimeoutError: they did not come in time; ask again to wait longer.
            ServingError: it was not served to its end.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"{self!r} was not done after {timeout} s")
        if self._error is not None:
            raise self._error
        return self.tokens

    def cancel(self) -> None:
        """Gives it up; what it had is free for others. Nothing if it is done."""
        if self._cancel is not None:
            self._cancel(self)

    def when_done(self, callback: Callable[[Generation], None]) -> None:
        """Calls it once it has ended, well or not: from the engine's thread, where an error of it
        is a warning, or here if it has.
        """
        with self._changed:
            if not self.done:
                self._when_done.append(callback)
                return
        callback(self)

    # For who serves.

    def on_cancel(self, callback: Callable[[Generation], None]) -> None:
        """Who is told when it is cancelled."""
        self._cancel = callback

    @property
    def made(self) -> int:
        """How many tokens are known."""
        return len(self._tokens)

    @property
    def left(self) -> int:
        """Tokens that are still to be made, if none of them ends it."""
        return self.wanted.steps - len(self._tokens)

    @property
    def so_far(self) -> list[int]:
        """The prompt and what was made: what it goes on from after a loss."""
        return [*self.wanted.prompt, *self._tokens]

    def add(self, token: int) -> None:
        """One more; the last one ends it."""
        now = time.perf_counter()
        with self._changed:
            if self.done:
                return
            self._tokens.append(token)
            self.first = self.first or now
            if token == self.wanted.end:
                self.reason, self.ended = "end", now
            elif not self.left:
                self.reason, self.ended = "length", now
            self._changed.notify_all()
        self._tell()

    def fail(self, error: BaseException) -> None:
        """There will be no more."""
        with self._changed:
            if not self.done:
                self._error, self.ended = error, time.perf_counter()
                self._changed.notify_all()
        self._tell()

    def cancelled(self, why: str) -> None:
        """As `fail`."""
        self.fail(RequestCancelled(f"{self!r} was cancelled: {why}"))

    def _tell(self) -> None:
        if self.done:
            callbacks, self._when_done = self._when_done, []
            for callback in callbacks:
                tell("when_done", callback, self)

    def __repr__(self) -> str:
        said = f"{len(self._tokens)} of {self.wanted.steps} tokens"
        return f"Generation({self.number}: {len(self.wanted.prompt)} tokens of prompt, {said})"
