"""Batches of images over slices: whoever is free gets the next; one that is lost, another."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ... import runtime as rt
from ..errors import RunError
from ..library import image_embedding
from .errors import ServingError
from .image_folder import ImageBatch

# Batches that are sent to a slice before the first of them is there.
AHEAD = 2
# Seconds after which whoever waits looks again.
_GLANCE = 0.05


class Batch(NamedTuple):
    """A batch that was sent.

    Attributes:
        batch: what.
        began: by `time.monotonic`.
        rows: its embeddings, which may be on their way.
    """

    batch: ImageBatch
    began: float
    rows: Any


class Embedding:
    """A model of images on one slice.

    Attributes:
        slice: where.
        sent: batches that are not there yet, oldest first.
        alive: its island is there.
    """

    def __init__(self, config: Any, params: Any, part: rt.Slice):
        self._config, self._host, self.slice = config, params, part
        self.sent: deque[Batch] = deque()
        self.alive = False
        self.start()

    def start(self) -> None:
        """Puts the parameters there; again, after its island was lost and came back."""
        self.sent.clear()
        self._embed = rt.computation(image_embedding(self._config), self.slice, name="embed")
        self._params = self.slice.put(self._host)
        self.alive = True

    def send(self, batch: ImageBatch) -> None:
        """Has a batch embedded; returns at once."""
        rows = self._embed(self._params, batch.image, batch.mask)
        self.sent.append(Batch(batch, time.monotonic(), rows))


class Embeddings:
    """Batches over slices; to be used by one thread."""

    def __init__(
        self,
        config: Any,
        params: Any,
        slices: Sequence[rt.Slice],
        *,
        retries: int = 3,
        on_event: Callable[[str], None] = lambda _: None,
    ):
        """Args:
        config, params: of a model of images.
        slices: where batches go.
        retries: how often a batch is given to another, before all is given up.
        on_event: is told of what is lost.
        """
        self._places = [Embedding(config, params, part) for part in slices]
        self._retries, self._on_event = retries, on_event
        self._tries: dict[int, int] = {}
        self._again: deque[ImageBatch] = deque()

    def run(
        self,
        numbers: Iterable[int],
        load: Callable[[int], ImageBatch],
        *,
        threads: int,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[ImageBatch, Float[np.ndarray, "n F"]]]:
        """Each batch with the embeddings of its images that could be read, as they come.

        Args:
            numbers: of batches.
            load: reads one; called in threads.
            threads: how many.
            stopping: true to begin nothing more and wait for nothing more.

        Raises:
            RunError: no island is left, or one batch was lost too often.
        """
        todo, loading = iter(numbers), deque[Future[ImageBatch]]()
        ahead = AHEAD * len(self._places) + threads
        with ThreadPoolExecutor(threads, "byways images") as pool:
            try:
                while not stopping():
                    while len(loading) < ahead and (number := next(todo, None)) is not None:
                        loading.append(pool.submit(load, number))
                    went = self._send(loading)
                    for found in self._take():
                        went = True
                        yield found
                        if stopping():
                            return
                    if not went and not self._wait(loading):
                        return
            finally:
                for future in loading:
                    future.cancel()

    def _send(self, loading: deque[Future[ImageBatch]]) -> bool:
        self._look()
        went = False
        while self._again or (loading and loading[0].done()):
            free = [p for p in self._places if p.alive and len(p.sent) < AHEAD]
            if not free:
                break
            place = min(free, key=lambda place: len(place.sent))
            batch = self._again.popleft() if self._again else loading.popleft().result()
            went = True
            try:
                place.send(batch)
            except rt.RuntimeFault as error:
                self._lost(place, error, [batch])
        return went

    def _take(self) -> Iterator[tuple[ImageBatch, np.ndarray]]:
        for place in self._places:
            while place.alive and place.sent and place.sent[0].rows.done():
                try:
                    rows = np.asarray(place.sent[0].rows)
                except rt.RuntimeFault as error:
                    self._lost(place, error)
                    break
                batch = place.sent.popleft().batch
                yield batch, rows[batch.mask]

    def _wait(self, loading: deque[Future[ImageBatch]]) -> bool:
        """For the oldest batch; false if nothing is to be waited for."""
        sent = [place.sent[0] for place in self._places if place.sent]
        free = any(place.alive and len(place.sent) < AHEAD for place in self._places)
        if loading and free:
            try:
                loading[0].exception(_GLANCE / 10 if sent else _GLANCE)
            except TimeoutError:
                return True
            return True
        if not sent:
            return bool(loading or self._again)
        try:
            min(sent, key=lambda one: one.began).rows.result(_GLANCE)
        except rt.RuntimeFault:
            return True  # too long; or lost, which is met when it is taken
        return True

    def _look(self) -> None:
        for place in self._places:
            island = place.slice.island
            if place.alive and island.lost:
                self._lost(place, rt.IslandLost(f"island {island.name!r} is lost"))
            elif not place.alive and not island.lost:
                self._start(place)
        if not any(place.alive for place in self._places):
            names = ", ".join(repr(place.slice.island.name) for place in self._places)
            raise RunError(
                f"no island is left to embed on: {names} are lost; what is done is kept, and the "
                "same command goes on"
            )

    def _start(self, place: Embedding) -> None:
        try:
            place.start()
        except rt.RuntimeFault:
            place.alive = False

    def _lost(
        self, place: Embedding, error: BaseException, others: Sequence[ImageBatch] = ()
    ) -> None:
        whose = [*(sent.batch for sent in place.sent), *others]
        place.sent.clear()
        place.alive = False
        island = place.slice.island
        what = "is lost" if island.lost else f"has failed ({error})"
        self._on_event(f"island {island.name!r} {what}: its {len(whose)} batches go to others")
        for batch in reversed(whose):
            self._tries[batch.number] = self._tries.get(batch.number, 0) + 1
            if self._tries[batch.number] > self._retries:
                raise ServingError(
                    f"batch {batch.number} (from {batch.table[0]['path']}) was given to islands "
                    f"{self._retries} times more, and was lost on {island.name!r} again: {error}"
                ) from error
            self._again.appendleft(batch)
        if not island.lost:
            self._start(place)
