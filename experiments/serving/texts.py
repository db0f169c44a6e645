"""Prompts in, texts out: lines go to an engine as there is room, and each result is a line."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ...datasets import TextCodes
from ...models import PalmConfig
from .engine import Engine
from .errors import ServingError
from .generation import Generation, Wanted
from .prompts import Faulty, PromptLine
from .wanting import check_wanted

# Seconds after which whoever waits for results looks whether it shall stop.
_GLANCE = 0.1
# Tokens that are made where nobody says how many.
USUAL = 64


@dataclasses.dataclass(frozen=True)
class Asking:
    """How lines become requests.

    Attributes:
        config: of the model.
        codes: its vocabulary.
        steps: tokens to make at most; None is as many as fit, 64 at most.
        temperature, top_k: see `Wanted`.
        seed: of the first line; each next one has the next number.
    """

    config: PalmConfig
    codes: TextCodes
    steps: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    seed: int = 0

    def wanted(self, line: PromptLine) -> Wanted:
        """The request of a line, with what the line itself says.

        Raises:
            ValueError: it cannot be served: a prompt that leaves no room, above all.
        """
        prompt, room = self.codes.start(line.prompt), self.config.max_length
        own = {
            "steps": self.steps,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "seed": self.seed + line.index,
            **line.options,
        }
        if own["steps"] is None:
            own["steps"] = max(1, min(USUAL, room - len(prompt)))
        own["temperature"] = float(own["temperature"])
        wanted = Wanted(tuple(prompt), end=self.codes.mark, **own)
        check_wanted(self.config, room, wanted)
        return wanted

    def record(self, line: PromptLine, generation: Generation) -> dict[str, Any]:
        """The result of a request that is done, as JSON has it."""
        wanted, head = generation.wanted, line.head
        try:
            made = generation.result()
        except ServingError as error:
            return {**head, "error": str(error)}
        began, first, ended = generation.submitted, generation.first, generation.ended
        assert first is not None
        assert ended is not None
        return {
            **head,
            "text": self.codes.decode([*wanted.prompt, *made]),
            "tokens": len(made),
            "reason": generation.reason,
            **({"seed": wanted.seed} if wanted.temperature else {}),
            "first_token_seconds": round(first - began, 6),
            "seconds": round(ended - began, 6),
        }


def serve_lines(
    engine: Engine,
    asking: Asking,
    lines: Iterable[PromptLine | Faulty],
    give: Callable[[dict[str, Any]], None],
    *,
    many: int,
    stopping: Callable[[], bool] = lambda: False,
) -> bool:
    """Serves lines as they come, and gives each result as soon as it is whole.

    Args:
        engine: which serves.
        asking: how a line becomes a request.
        lines: taken by another thread, so that waiting for the next holds nothing up.
        give: gets the results, in the order in which they end.
        many: requests that are under way at most.
        stopping: true to begin nothing more and wait for nothing more.

    Returns:
        whether all were served, rather than stopped.
    """
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    room, stop = threading.Semaphore(many), threading.Event()

    def begin(line: PromptLine | Faulty) -> None:
        if isinstance(line, Faulty):
            ended.put({**line.head, "error": line.why})
            return
        try:
            generation = engine.ask(asking.wanted(line))
        except ValueError as error:
            ended.put({**line.head, "error": str(error)})
        else:
            generation.when_done(lambda g: ended.put((line, g)))

    def feed() -> None:
        count = 0
        try:
            for line in lines:
                while not room.acquire(timeout=_GLANCE):
                    if stop.is_set():
                        return
                begin(line)
                count += 1
            ended.put(count)
        except BaseException as error:  # it is raised again by who waits
            ended.put(error)

    threading.Thread(target=feed, name="byways prompts", daemon=True).start()
    given, total = 0, None
    try:
        while total is None or given < total:
            try:
                found = ended.get(timeout=_GLANCE)
            except queue.Empty:
                if stopping():
                    return False
                continue
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, int):
                total = found
                continue
            given += 1
            room.release()
            give(asking.record(*found) if isinstance(found, tuple) else found)
            # What has ended is given, also when it is to stop.
            if stopping() and ended.empty():
                return False
        return True
    finally:
        stop.set()
