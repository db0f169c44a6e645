"""What a trace in Chrome's JSON format must hold to, and spans by hand to make some of."""

import itertools
import json
import math

from byways.runtime.spans import Span

DEFAULTS = {
    "run": 0,
    "program": "step",
    "client": "me",
    "node": 0,
    "kind": "node",
    "island": "pod",
    "devices": (0,),
    "parents": (),
    "woken_by": None,
    "bytes": 0,
    "thread": 0,
    "after": (),
    "seen": True,
    "failed": False,
}


def sent(name, key, sent_began, sent_ended, seen_at=math.inf, **fields):
    """A span as the recorder has it before it is laid out."""
    return Span(
        name=name,
        key=key,
        sent_began=float(sent_began),
        sent_ended=float(sent_ended),
        began=float(sent_began),
        ended=float(seen_at),
        **{**DEFAULTS, **fields},
    )


def waited(name, key, began, ended, **fields):
    """A controller's wait, from when to when."""
    return sent(name, key, began, ended, ended, **{"kind": "read", "devices": (), **fields})


def no_overlap(slices):
    """Slices of a lane come one after the other, or one inside another."""
    open_until = []
    for event in sorted(slices, key=lambda e: (e["ts"], -e["dur"])):
        ends = event["ts"] + event["dur"]
        while open_until and open_until[-1] <= event["ts"] + 1e-4:
            open_until.pop()
        assert not open_until or ends <= open_until[-1] + 1e-4, event
        open_until.append(ends)


def check_format(trace):
    """Asserts that a trace obeys the format; gives its slices and arrows.

    Returns:
        slices (`ph` X), and pairs of the slices that each arrow connects.
    """
    assert trace == json.loads(json.dumps(trace, allow_nan=False))
    slices, starts, ends, named = [], {}, {}, set()
    for event in trace["traceEvents"]:
        assert {"ph", "name", "pid", "tid"} <= event.keys()
        if event["ph"] == "M":
            named.add((event["pid"], event["tid"], event["name"]))
            continue
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices.append(event)
        else:
            side = {"s": starts, "f": ends}[event["ph"]]
            assert event["id"] not in side
            side[event["id"]] = event
    for pid, tid in {(event["pid"], event["tid"]) for event in slices}:
        assert (pid, 0, "process_name") in named
        assert (pid, tid, "thread_name") in named
    assert starts.keys() == ends.keys()
    lanes = {}
    for event in slices:
        lanes.setdefault((event["pid"], event["tid"]), []).append(event)
    for lane in lanes.values():
        no_overlap(lane)
    arrows = []
    for number, start in starts.items():
        end = ends[number]
        assert (start["name"], start["cat"]) == (end["name"], end["cat"])
        assert end["bp"] == "e"
        assert start["ts"] <= end["ts"], (start, end)
        arrows.append((_around(lanes, start), _around(lanes, end)))
    return slices, arrows


def _around(lanes, event):
    """The innermost slice that is open where an arrow begins or ends."""
    found = [
        one
        for one in lanes[event["pid"], event["tid"]]
        # Times have three decimals; a sum of two may miss the third by a little.
        if one["ts"] <= event["ts"] <= one["ts"] + one["dur"] + 5e-4
    ]
    assert found, event
    return max(found, key=lambda one: one["ts"])


def overlaps(spans):
    """Pairs of spans that overlap on a lane of a device."""
    by_device = [span for span in spans if span.by_device]
    return [
        (a.name, b.name)
        for a, b in itertools.combinations(by_device, 2)
        if set(a.lanes) & set(b.lanes) and a.began < b.ended and b.began < a.ended
    ]
