"""What a simulated run did when, as the spans of any other recording."""

from __future__ import annotations

import threading
from typing import Any

from .spans import SHORTEST, Key, Span, SpanKind


class SimRecorder:
    """Stands for a `Recorder`: the same calls, and times of the model.

    A node is drawn on the first device of its slice alone: all of them do the same.
    """

    def __init__(self):
        self.spans: list[Span] = []
        self._all: list[tuple[dict[str, Any], Any]] = []
        self._given: dict[Key, Key] = {}
        self._closed = False

    def sent(
        self,
        *,
        kind: SpanKind,
        devices: tuple[int, ...],
        began: float,
        ended: float,
        watched: Any,
        made: int = 0,
        **fields: Any,
    ) -> None:
        """Tells of one thing that was just sent; `began` and `ended`, of a real clock, are not
        looked at."""
        if not self._closed:
            thread = threading.get_ident()
            fields.update(kind=kind, devices=devices[:1], bytes=made, thread=thread)
            self._all.append((fields, None if watched is None else watched.task))

    def given(self, run: int, key: int, maker: Key) -> None:
        """Tells that what `key` makes in this run is an argument, made by (run, key) of another."""
        self._given[run, key] = self._given.get(maker, maker)

    def close(self) -> list[Span]:
        """The spans, in order of sending; what has not ended by now, in simulated time, is waited
        for by whoever wants its results."""
        if not self._closed:
            self._closed = True
            # What was there from the beginning, or was cut off, took no time.
            done = [(fields, t) for fields, t in self._all if t is not None and t.end is not None]
            self._all.clear()
            threads: dict[int, int] = {}
            times = _on_lanes(done)
            self.spans = [
                self._span(fields, task, threads, when)
                for (fields, task), when in zip(done, times, strict=True)
            ]
        return self.spans

    def _span(
        self, fields: dict[str, Any], task: Any, threads: dict[int, int], when: tuple[float, float]
    ) -> Span:
        mine = [(fields["run"], key) for key in fields["parents"]]
        after = tuple(dict.fromkeys(self._given[key] for key in mine if key in self._given))
        fields["thread"] = threads.setdefault(fields["thread"], len(threads))
        return Span(
            **fields,
            after=after,
            sent_began=task.sent[0],
            sent_ended=task.sent[1],
            began=when[0],
            ended=when[1],
            seen=True,
            failed=False,
        )

    def __enter__(self) -> SimRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _on_lanes(done: list[tuple[dict[str, Any], Any]]) -> list[tuple[float, float]]:
    """When each begins and ends; of transfers to one device that overlap, one after the other."""
    lanes: dict[Any, float] = {}
    found = [(0.0, 0.0)] * len(done)
    for n in sorted(range(len(done)), key=lambda n: done[n][1].begin):
        fields, task = done[n]
        lane = fields["devices"], fields["kind"]
        began = max(task.begin, lanes.get(lane, 0.0))
        found[n] = began, max(task.end, began + SHORTEST)
        lanes[lane] = found[n][1]
    return found
