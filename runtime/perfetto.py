"""Spans as a trace in Chrome's JSON format, which https://ui.perfetto.dev opens."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .spans import SHORTEST, Span, makers

# Perfetto shows processes by their number: the controller first, then the islands.
_CONTROLLER = 1


def perfetto(spans: Sequence[Span]) -> dict[str, Any]:
    """The whole trace as a JSON-able dictionary.

    The controller is a process with a lane for each client's dispatching thread; an island is
    one with a lane for each device, and one beside it for copies to that device. A node on
    several devices is a span on each. Arrows go from the maker of a value to its user, and from
    a router's read to the experts it woke. Times are µs from the first span.

    Examples:
        >>> perfetto([])["traceEvents"]
        []
    """
    if not spans:
        return {"traceEvents": [], "displayTimeUnit": "ms"}
    lanes = _Lanes(spans)
    zero = min(min(span.began, span.sent_began) for span in spans)
    events = lanes.names()
    for span in spans:
        events += _slices(span, lanes, zero)
    events += _arrows(spans, lanes, zero)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_trace(spans: Sequence[Span], path: str | Path) -> Path:
    """Writes the trace, whole or not at all.

    Raises:
        OSError: the folder cannot be written; an old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(perfetto(spans), ensure_ascii=False, separators=(",", ":"))
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp makes files private.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


Place = tuple[int, int]  # process and thread


class _Lanes:
    """Numbers of the processes and their lanes."""

    def __init__(self, spans: Sequence[Span]):
        islands = sorted({span.island for span in spans if span.by_device})
        self.process = {name: _CONTROLLER + 1 + n for n, name in enumerate(islands)}
        threads = sorted({(span.client, span.thread) for span in spans})
        self.thread = {key: n + 1 for n, key in enumerate(threads)}
        self.lanes = sorted(
            {(span.island, *lane) for span in spans if span.by_device for lane in span.lanes}
        )

    def dispatch(self, span: Span) -> Place:
        """Where the controller's part of it is."""
        return _CONTROLLER, self.thread[span.client, span.thread]

    def work(self, span: Span) -> list[Place]:
        """Where its work is: a lane for each device."""
        process = self.process[span.island]
        return [(process, _number(*lane)) for lane in span.lanes]

    def main(self, span: Span) -> Place:
        """Where arrows begin and end."""
        places = self.work(span) if span.by_device else []
        return places[0] if places else self.dispatch(span)

    def names(self) -> list[dict[str, Any]]:
        """Metadata events."""
        events = [_named("process_name", _CONTROLLER, 0, "controller")]
        events.append(_sorted("process_sort_index", _CONTROLLER, 0, 0))
        several = len({client for client, _ in self.thread}) < len(self.thread)
        for (client, thread), number in self.thread.items():
            name = f"{client}, thread {thread}" if several else client
            events.append(_named("thread_name", _CONTROLLER, number, f"dispatch: {name}"))
            events.append(_sorted("thread_sort_index", _CONTROLLER, number, number))
        for island, process in self.process.items():
            events.append(_named("process_name", process, 0, f"island {island}"))
            events.append(_sorted("process_sort_index", process, 0, process))
        for island, device, copies in self.lanes:
            place = self.process[island], _number(device, copies)
            name = f"copies to device {device}" if copies else f"device {device}"
            events.append(_named("thread_name", *place, name))
            events.append(_sorted("thread_sort_index", *place, place[1]))
        return events


def _number(device: int, copies: bool) -> int:
    # From 1: some viewers take a thread 0 for the process itself.
    return 2 * device + 1 + copies


def _named(what: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}


def _sorted(what: str, process: int, thread: int, place: int) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"sort_index": place}}


def _slices(span: Span, lanes: _Lanes, zero: float) -> list[dict[str, Any]]:
    """What is drawn of a span: its sending, and its work on each device."""
    args: dict[str, Any] = {
        "program": span.program,
        "client": span.client,
        "run": span.run,
        "node": span.node,
    }
    if span.bytes:
        args["bytes made"] = span.bytes
    if len(span.devices) > 1:
        args["devices"] = list(span.devices)
    if span.by_device:
        args["sent after µs"] = _micros(span.sent_began - zero)
        args["waited µs"] = _micros(max(0.0, span.began - span.sent_ended))
    if not span.seen:
        args["end"] = "not seen; the time until the next that was is shared out"
    if span.failed:
        args["failed"] = True
    sending = _slice(
        span.name if span.by_device else f"{span.kind} {span.name}",
        f"send {span.kind}" if span.by_device else span.kind,
        lanes.dispatch(span),
        (span.sent_began - zero, span.sent_ended - zero),
        args if not span.by_device else {"program": span.program, "island": span.island},
    )
    if not span.by_device:
        return [sending]
    when = span.began - zero, span.ended - zero
    work = [_slice(span.name, span.kind, place, when, args) for place in lanes.work(span)]
    return [sending, *work]


def _slice(
    name: str, category: str, place: Place, when: tuple[float, float], args: dict[str, Any]
) -> dict[str, Any]:
    begins, ends = _micros(when[0]), _micros(when[1])
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": place[0],
        "tid": place[1],
        "ts": begins,
        # From rounded ends, so that a span which begins where another ends does not overlap it.
        "dur": round(max(0.0, ends - begins), 3),
        "args": args,
    }


def _arrows(spans: Sequence[Span], lanes: _Lanes, zero: float) -> list[dict[str, Any]]:
    events, number = [], 0
    for span, before in zip(spans, makers(spans), strict=True):
        for maker in (spans[n] for n in before):
            number += 1
            wakes = not maker.by_device and maker.key == span.woken_by
            common = {"name": "wakes" if wakes else "value", "id": number}
            common["cat"] = common["name"]
            # Just inside both spans, since an arrow holds on to the span that is open there.
            leaves = _micros(max(maker.began, maker.ended - SHORTEST) - zero)
            # A wait begins before what it waits for is there.
            comes = _micros(max(span.began, min(maker.ended, span.ended - SHORTEST)) - zero)
            # Spans have a shortest length, by which a maker may seem to end after its user.
            leaves = max(min(leaves, comes), _micros(maker.began - zero))
            comes = max(comes, leaves)
            for phase, place, at in (
                ("s", lanes.main(maker), leaves),
                ("f", lanes.main(span), comes),
            ):
                events.append({"ph": phase, **common, "pid": place[0], "tid": place[1], "ts": at})
            events[-1]["bp"] = "e"
    return events


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 3)
