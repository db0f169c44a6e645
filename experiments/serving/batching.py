"""Continuous batching: which prompt is read where, who gets which row, and who begins again.

One turn sends all that can be sent and takes all that is there; nothing in it waits. Tokens are
read when they are done, some steps after they were sent: rows stop by themselves on the device,
so that to be late costs nothing but a row that is free a little later.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ... import runtime as rt
from ...models import PalmConfig
from .errors import ServingError
from .generation import Generation
from .reading import Reader
from .statistics import Counts
from .writing import Writer

# Prompts that are sent to a reader before the first of them is read.
READ_AHEAD = 2


class Batching:
    """Requests over slices; to be called from one thread.

    Attributes:
        readers, writers: where prompts are read, and tokens made.
        counts: what happened.
    """

    def __init__(
        self,
        config: PalmConfig,
        params: Any,
        read: Sequence[rt.Slice],
        write: Sequence[rt.Slice],
        *,
        rows: int,
        room: int,
        ahead: int,
        retries: int,
        told: Callable[[str], None],
    ):
        """Args:
        config, params: of the model.
        read, write: slices for prompts and for tokens.
        rows: requests at once, of each of the latter.
        room: tokens of a prompt and of what is made of it.
        ahead: steps of a writer that are sent before the first of them is read.
        retries: how often a request may begin again.
        told: gets a sentence about each loss.
        """
        self._reader = lambda part: Reader(config, params, part, room)
        self._writer = lambda part: Writer(config, params, part, rows, room)
        self.readers = [self._reader(part) for part in read]
        self.writers = [self._writer(part) for part in write]
        self.counts = Counts()
        self._ahead, self._retries, self._told = ahead, retries, told
        self._queue: deque[Generation] = deque()  # prompts to be read
        self._ready: deque[tuple[Generation, Any, Reader]] = deque()  # read, and without a row

    # What comes from outside.

    def add(self, generation: Generation) -> None:
        """A request, behind all others."""
        self._queue.append(generation)

    def grow(self, read: Sequence[rt.Slice], write: Sequence[rt.Slice]) -> None:
        """More slices on either side; one whose island is lost already is told of and left out."""
        for part in read:
            self._try_new(part, lambda part=part: self.readers.append(self._reader(part)))
        for part in write:
            self._try_new(part, lambda part=part: self.writers.append(self._writer(part)))

    def _try_new(self, part: rt.Slice, what: Callable[[], None]) -> None:
        try:
            what()
        except rt.RuntimeFault as error:
            self._told(f"island {part.island.name!r} cannot be used: {error}")

    def cancel(self, generation: Generation, why: str) -> None:
        """Gives a request up, wherever it is."""
        if generation.done:
            return
        generation.cancelled(why)
        if generation in self._queue:
            self._queue.remove(generation)
        self._ready = deque(entry for entry in self._ready if entry[0] is not generation)
        for writer in self.writers:
            if writer.alive:
                self._try(writer, lambda writer=writer: writer.leave(generation, clear=True))

    def unfinished(self) -> list[Generation]:
        """All that are not done."""
        found = [*self._queue, *(entry[0] for entry in self._ready)]
        for place in (*self.readers, *self.writers):
            found += place.lost()
        return [generation for generation in found if not generation.done]

    @property
    def idle(self) -> bool:
        """There is nothing to do."""
        ends = self._queue or self._ready or any(reader.pending for reader in self.readers)
        return not ends and not any(writer.sent or writer.taken for writer in self.writers)

    # A turn.

    def turn(self) -> bool:
        """Takes what is there and sends what can be sent; whether there was anything."""
        self._look()
        went = self._take_read()
        went |= self._take_made()
        went |= self._fill()
        went |= self._send_prompts()
        went |= self._send_steps()
        self._give_up()
        return went

    def wait(self, seconds: float) -> None:
        """Until the oldest of what is on its way is there, at most so long."""
        ways = [(r.pending[0].began, r.pending[0].first) for r in self.readers if r.pending]
        ways += [(w.sent[0].began, w.sent[0].told) for w in self.writers if w.sent]
        if not ways:
            time.sleep(seconds)
            return
        with contextlib.suppress(rt.RuntimeFault):  # too long; or lost, which the next turn meets
            min(ways, key=lambda way: way[0])[1].result(seconds)

    def _take_read(self) -> bool:
        went = False
        for reader in self._alive(self.readers):
            while reader.pending and reader.pending[0].first.done():
                went, reading = True, reader.pending[0]
                token = self._try(reader, lambda found=reading.first: int(found.result()))
                if token is None:
                    break
                reader.pending.popleft()
                generation = reading.generation
                self._made(generation, token)
                if not generation.done:
                    self._ready.append((generation, reading.memory, reader))
        return went

    def _take_made(self) -> bool:
        went = False
        for writer in self._alive(self.writers):
            while writer.sent and writer.sent[0].told.done():
                went, sent = True, writer.sent[0]
                tokens = self._try(writer, lambda told=sent.told: told.__array__().tolist())
                if tokens is None:
                    break
                writer.sent.popleft()
                for step in tokens:
                    for generation, token in zip(sent.rows, step, strict=True):
                        if generation is not None and token >= 0:
                            self._made(generation, token)
                for generation in sent.rows:
                    if generation is not None and generation.done:
                        writer.leave(generation)
        return went

    def _made(self, generation: Generation, token: int) -> None:
        if not generation.done:  # it may have been cancelled
            generation.add(token)
            self.counts.token(generation)

    def _fill(self) -> bool:
        went = False
        while self._ready:
            free = [w for w in self._alive(self.writers) if None in w.rows]
            if not free:
                break
            writer = min(free, key=lambda writer: writer.taken)
            generation, memory, reader = self._ready.popleft()
            try:
                memory.array()
            except rt.RuntimeFault as error:  # the reader is lost, and with it what it had read
                self._again([generation], reader, error)
                continue
            self._try(writer, lambda w=writer, g=generation, m=memory: w.fill(g, m))
            went = True
        return went

    def _send_prompts(self) -> bool:
        went = False
        while self._queue:
            free = [r for r in self._alive(self.readers) if len(r.pending) < READ_AHEAD]
            waiting = len(self._ready) + sum(len(reader.pending) for reader in self.readers)
            rows = sum(len(w.rows) - w.taken for w in self._alive(self.writers))
            if not free or waiting >= rows + self._spare():
                break
            reader, generation = min(free, key=lambda r: len(r.pending)), self._queue.popleft()
            self._try(reader, lambda r=reader, g=generation: r.send(g), generation)
            went = True
        return went

    def _spare(self) -> int:
        """Prompts that may be read before there is a row for them, so that none waits for one."""
        rows = sum(len(writer.rows) for writer in self._alive(self.writers))
        return max(rows // 2, len(self.readers))

    def _send_steps(self) -> bool:
        went = False
        waiting = bool(self._queue or self._ready or any(r.pending for r in self.readers))
        for writer in self._alive(self.writers):
            while writer.alive and writer.taken:
                # One by one where somebody is about to enter.
                soon = waiting and None in writer.rows
                steps = writer.together(1 if soon else self._ahead // 2)
                if writer.under_way + steps > self._ahead:
                    break
                taken = self._try(writer, lambda w=writer, n=steps: w.send(n))
                if taken is not None:
                    self.counts.steps(steps, taken, len(writer.rows))
                went = True
        return went

    # Losses.

    def _alive(self, places: Sequence[Any]) -> list[Any]:
        return [place for place in places if place.alive]

    def _try(
        self, place: Reader | Writer, what: Callable[[], Any], whose: Generation | None = None
    ) -> Any:
        """What it returns; None if the place has failed, whose requests begin again.

        Args:
            place: where.
            what: to be done.
            whose: who begins again besides.
        """
        try:
            return what()
        except rt.RuntimeFault as error:
            self._lost(place, error, [] if whose is None else [whose])
            return None

    def _lost(
        self, place: Reader | Writer, error: BaseException, others: Sequence[Generation] = ()
    ) -> None:
        whose = [*place.lost(), *others]
        place.forget()  # an island may never come back, and what was on it would be waited for
        if not place.slice.island.lost:  # a node failed there, or what came from elsewhere
            self._start(place)
        self._again(whose, place, error)

    def _start(self, place: Reader | Writer) -> bool:
        try:
            place.start()
        except rt.RuntimeFault:
            return False  # it is tried again at every turn
        return True

    def _again(
        self, whose: Sequence[Generation], place: Reader | Writer, error: BaseException
    ) -> None:
        """Requests whose work is lost go on from what they have, in front of all others."""
        self.counts.losses += 1
        name, going = place.slice.island.name, [one for one in whose if not one.done]
        for generation in sorted(going, key=lambda g: g.number, reverse=True):
            generation.attempts += 1
            if generation.attempts <= self._retries:
                self._queue.appendleft(generation)
                continue
            failed = ServingError(
                f"{generation!r} began again {self._retries} times, and was lost once more on "
                f"island {name!r}: {error}"
            )
            failed.__cause__ = error
            generation.fail(failed)
        what = "is lost" if place.slice.island.lost else f"has failed ({error})"
        many = f"{len(going)} request{'' if len(going) == 1 else 's'}"
        self._told(f"island {name!r} {what}: {many} on it begin again from what was made of them")

    def _look(self) -> None:
        """Islands that were lost since, and those that were started again."""
        for place in [*self.readers, *self.writers]:
            island = place.slice.island
            if place.alive and island.lost:
                self._lost(place, rt.IslandLost(f"island {island.name!r} is lost"))
            elif not place.alive and not island.lost and self._start(place):
                self._told(f"island {island.name!r} is there again")

    def _give_up(self) -> None:
        """Nobody waits for islands that are not there."""
        if not self._alive(self.writers):
            self._fail(self.unfinished(), self.writers, "make tokens on")
            self._ready.clear()
        elif not self._alive(self.readers):
            self._fail(list(self._queue), self.readers, "read prompts on")
        else:
            return
        self._queue.clear()

    def _fail(self, whose: list[Generation], places: Sequence[Any], what: str) -> None:
        lost = ", ".join(sorted({repr(place.slice.island.name) for place in places}))
        for generation in whose:
            generation.fail(ServingError(f"no island is left to {what}: {lost} are lost"))
