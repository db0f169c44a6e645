"""Text for many at once: an engine that is given requests and streams their tokens."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ... import runtime as rt
from ...models import PalmConfig, check_stepwise, stack_blocks
from .batching import Batching
from .callbacks import tell
from .errors import ServingError
from .generation import Generation, Wanted
from .keys import request_keys
from .statistics import Statistics
from .wanting import check_wanted

# Seconds after which a thread that waits looks for new requests.
_GLANCE = 0.02
_numbers = itertools.count(1)


class Engine:
    """Serves requests of a decoder over slices, each as `models.generate` would alone.

        with Engine(config, params, read=[one], write=[other, third]) as engine:
            generation = engine.submit([10, 97], steps=20)
            for token in generation.stream():
                …

    Prompts are read on some slices and tokens made on others (or the same), of any runtime; keys
    and values go from the ones to the others without coming here. A thread sends and reads.

    Attributes:
        room: tokens that a prompt and what is made of it may have.
        events: sentences about what was lost, the newest last.
        thread_seconds: CPU time that the engine's thread has taken.
    """

    def __init__(
        self,
        config: PalmConfig,
        params: Any,
        *,
        read: Sequence[rt.Slice],
        write: Sequence[rt.Slice],
        rows: int = 8,
        room: int | None = None,
        ahead: int = 8,
        retries: int = 3,
        on_event: Callable[[str], None] | None = None,
    ):
        """Args:
            config: of the model; sparse ones must be dropless at evaluation (`check_stepwise`).
            params: what `Palm(config).init` returned, or trained.
            read: slices where prompts are read.
            write: slices where tokens are made.
            rows: requests at once on each of these.
            room: tokens of a prompt and of what is made of it; None is the model's `max_length`.
            ahead: steps that are sent before the first of them is read.
            retries: how often a request begins again when an island is lost.
            on_event: is told of what is lost, from the engine's thread; its error is a warning.

        Raises:
            ValueError: a number out of range, no slices, slices of two runtimes, or a mixture
                that cannot generate.
            SliceError, IslandLost: a slice has no devices.
        """
        if config.moe_layers:
            check_stepwise(config.moe)
        room = config.max_length if room is None else room
        if not 1 < room <= config.max_length:
            raise ValueError(f"room={room}: expected 2 to max_length={config.max_length}")
        for name, value, least in (("rows", rows, 1), ("ahead", ahead, 1), ("retries", retries, 0)):
            if value < least:
                raise ValueError(f"{name}={value}: expected {least} or more")
        if not read or not write:
            what = "read prompts" if not read else "make tokens"
            raise ValueError(f"there is no slice to {what} on: give one or more to each side")
        systems = {id(part.system) for part in (*read, *write)}
        if len(systems) > 1:
            raise ValueError("the slices are of two runtimes: take all of them from one")
        self._config, self.room, self._on_event = config, room, on_event
        self.events: deque[str] = deque(maxlen=100)
        self.thread_seconds = 0.0
        if config.scan:  # once, rather than at each token
            params = stack_blocks(params)
        system: rt.Runtime = read[0].system
        self._client = system.client(f"serving {next(_numbers)}")
        how: dict[str, Any] = {"rows": rows, "room": room, "ahead": ahead, "retries": retries}
        try:
            with self._client:
                self._batching = Batching(config, params, read, write, told=self._tell, **how)
        except BaseException:
            self._client.close()
            raise
        self._arrived: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closing, self._error = False, None
        self._requests = itertools.count(1)
        self._thread: threading.Thread | None = None

    def submit(
        self,
        prompt: Sequence[int],
        *,
        steps: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        seed: int = 0,
        end: int | None = None,
    ) -> Generation:
        """Asks for tokens; returns at once. From any thread.

        Args:
            prompt: tokens, one or more.
            steps: tokens to make at most.
            temperature: 0 takes the likeliest token each time.
            top_k: draws among so many of the likeliest only.
            seed: of the draws; the tokens are those that `generate` draws by `key(seed)`.
            end: the token that ends it.

        Raises:
            ValueError: what cannot be served, and why.
            ServingError: the engine is closed, or has failed.
        """
        return self.ask(Wanted(tuple(map(int, prompt)), steps, temperature, top_k, seed, end))

    def ask(self, wanted: Wanted) -> Generation:
        """As `submit`."""
        check_wanted(self._config, self.room, wanted)
        generation = Generation(next(self._requests), wanted, request_keys(wanted))
        generation.on_cancel(lambda g: self._call(lambda: self._batching.cancel(g, "as asked")))
        with self._changed:
            if self._error is not None or self._closing:
                raise ServingError(f"the engine is closed{self._error or ''}: make another")
            self._arrived.append(lambda: self._batching.add(generation))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="byways serving", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
        return generation

    def grow(self, *, read: Sequence[rt.Slice] = (), write: Sequence[rt.Slice] = ()) -> None:
        """Uses more slices from now on; each side grows by itself. From any thread.

        Raises:
            ValueError: a slice is of another runtime.
        """
        if any(part.system is not self._client.system for part in (*read, *write)):
            raise ValueError("a slice is of another runtime: take it from the engine's")
        self._call(lambda: self._batching.grow(read, write))

    def statistics(self) -> Statistics:
        """Until now."""
        return self._batching.counts.now()

    def compile(self) -> None:
        """Compiles for every length of prompt, so that no request waits for it.

        To be called before the first request.
        """
        if self._thread is not None:
            raise ServingError("compile() comes before the first request, and there was one")
        with self._client:
            memories = [reader.compile() for reader in self._batching.readers]
            for writer in self._batching.writers:
                writer.compile(memories[0])

    @property
    def compiled(self) -> int:
        """How many programs were compiled, on all slices."""
        return sum(place.compiled for place in (*self._batching.readers, *self._batching.writers))

    def close(self) -> None:
        """Gives up what is not done, and frees all that it holds. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        for arrived in self._drain():
            arrived()
        for generation in self._batching.unfinished():
            generation.cancelled("its engine was closed")
        self._client.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    # The engine's thread.

    def _run(self) -> None:
        try:
            with self._client:
                while not self._closing:
                    for arrived in self._drain():
                        arrived()
                    went = self._batching.turn()
                    self.thread_seconds = time.thread_time()
                    if went:
                        continue
                    if self._batching.idle:
                        with self._changed:
                            self._changed.wait_for(lambda: self._arrived or self._closing, 1.0)
                    else:
                        self._batching.wait(_GLANCE)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = f" ({type(error).__name__}: {error})"
        for arrived in self._drain():
            with contextlib.suppress(Exception):  # what has failed may fail again
                arrived()
        failed = ServingError(f"the engine has failed{self._error}")
        failed.__cause__ = error
        for generation in self._batching.unfinished():
            generation.fail(failed)

    def _drain(self) -> Iterator[Callable[[], None]]:
        """One by one, so that those after one that fails are still there."""
        while True:
            with self._changed:
                if not self._arrived:
                    return
                found = self._arrived.popleft()
            yield found

    def _call(self, what: Callable[[], None]) -> None:
        with self._changed:
            self._arrived.append(what)
            self._changed.notify_all()

    def _tell(self, sentence: str) -> None:
        self.events.append(sentence)
        if self._on_event is not None:
            tell("on_event", self._on_event, sentence)
