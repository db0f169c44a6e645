"""What was done when: a span for each thing a run did, laid out on the lanes of the devices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

SpanKind = Literal["node", "transfer", "read", "expand"]
# Nothing is shorter, so that every span can be seen and arrows have something to hold on to.
SHORTEST = 1e-7

Lane = tuple[int, bool]
Key = tuple[int, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """One node, one batch of copies, or one wait of the controller.

    Times are `time.perf_counter`'s, in seconds.

    Attributes:
        run: number of the run.
        program: its name.
        client: in whose name.
        node: index in the program's graph.
        name: the node's.
        kind: `node` and `transfer` are work of devices; `read` is the controller's wait for counts
            to arrive, `expand` its turning them into nodes.
        island: where.
        devices: ids; () of what the controller does.
        parents: keys of the spans in the same run that made its inputs.
        key: in the run; the waits of one conditional node share one, and the copies for one node.
        woken_by: key of the conditional node that made it.
        bytes: of what it made, on all devices together; 0 is not known.
        thread: number of the dispatching thread, from 0.
        after: (run, key) of the makers of its inputs in other runs.
        sent_began, sent_ended: when the controller enqueued it.
        began, ended: when it ran; of `read` and `expand` the same as `sent_*`.
        seen: `ended` was seen; False where its output was donated before anyone could look, or it
            has none: the time is shared out up to the next that was seen.
        failed: it ended with an error.
    """

    run: int
    program: str
    client: str
    node: int
    name: str
    kind: SpanKind
    island: str
    devices: tuple[int, ...]
    parents: tuple[int, ...]
    key: int
    woken_by: int | None
    bytes: int
    thread: int
    after: tuple[Key, ...]
    sent_began: float
    sent_ended: float
    began: float
    ended: float
    seen: bool
    failed: bool

    @property
    def seconds(self) -> float:
        """How long it ran."""
        return self.ended - self.began

    @property
    def by_device(self) -> bool:
        """It is work of devices, not of the controller."""
        return self.kind in ("node", "transfer")

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """(device, is a copy): copies go beside the computations of a device, not among them."""
        return tuple((device, self.kind == "transfer") for device in self.devices)


def makers(spans: Sequence[Span]) -> list[tuple[int, ...]]:
    """What each span waited for, by place in `spans`.

    Who uses what a conditional node made waits for all that it woke; what it woke, for its read.

    Args:
        spans: in order of sending, so that makers come before their users.
    """
    places: dict[Key, list[int]] = {}
    woken: dict[Key, list[int]] = {}
    found = []
    for n, span in enumerate(spans):
        mine: dict[int, None] = {}
        waker = () if span.woken_by is None else ((span.run, span.woken_by),)
        for key in (*waker, *((span.run, key) for key in span.parents), *span.after):
            # Of arguments and constants there are none: they are not sent.
            mine.update(dict.fromkeys(places.get(key, ())))
            if key not in waker:
                mine.update(dict.fromkeys(woken.get(key, ())))
        found.append(tuple(mine))
        places.setdefault((span.run, span.key), []).append(n)
        if span.woken_by is not None:
            woken.setdefault((span.run, span.woken_by), []).append(n)
    return found


def lay_out(sent: Sequence[Span]) -> list[Span]:
    """Sets `began` and `ended` of what ran on devices, from when it was sent and seen.

    A device works off its lane in order, so a span begins when it is enqueued, its inputs are
    there, and the one before it has ended, whichever is last; one that was ready as soon as it
    was enqueued ran inside that call. It has ended when it was seen to have, or when one that
    needs it has, if that is earlier.

    Args:
        sent: in order of sending, `ended` when each was seen ready (`math.inf`: never seen).

    Returns:
        the same, in the same order; on each lane none overlaps another.
    """
    before = makers(sent)
    latest = _latest_ends(sent, before)
    limit, shares = _limits(sent, latest)
    lanes: dict[Lane, float] = {}
    found: list[Span] = []
    for n, span in enumerate(sent):
        if not span.by_device:
            found.append(span)
            continue
        inline = span.ended <= span.sent_ended
        starts = [span.sent_began if inline else span.sent_ended]
        starts += [lanes.get(lane, 0.0) for lane in span.lanes]
        starts += [found[m].ended for m in before[n]]
        began = max(starts)
        seen = span.ended < math.inf
        ended = latest[n] if seen else began
        if not seen and limit[n] < math.inf:
            ended = began + (limit[n] - began) / shares[n]
        ended = max(ended, began + SHORTEST)
        lanes.update(dict.fromkeys(span.lanes, ended))
        found.append(dataclasses.replace(span, began=began, ended=ended, seen=seen))
    return found


def _latest_ends(sent: Sequence[Span], before: Sequence[tuple[int, ...]]) -> list[float]:
    """When each had ended at the latest: when it was seen, or what came after it had ended, its
    users and the next on its lane."""
    latest = [span.ended for span in sent]
    following: dict[Lane, float] = {}
    for n in reversed(range(len(sent))):
        if sent[n].by_device:
            for lane in sent[n].lanes:
                latest[n] = min(latest[n], following.get(lane, math.inf))
            following.update(dict.fromkeys(sent[n].lanes, latest[n]))
        for m in before[n]:
            latest[m] = min(latest[m], latest[n])
    return latest


def _limits(sent: Sequence[Span], latest: Sequence[float]) -> tuple[list[float], list[int]]:
    """Until when a span that was not seen may last, and among how many the time till then goes."""
    limit, shares = list(latest), [1] * len(sent)
    following: dict[Lane, tuple[float, int]] = {}
    for n in reversed(range(len(sent))):
        span = sent[n]
        if not span.lanes:
            continue
        if span.ended == math.inf:
            ahead = min(following.get(lane, (math.inf, 1)) for lane in span.lanes)
            if ahead[0] <= limit[n]:
                limit[n], shares[n] = ahead[0], ahead[1] + 1
        following.update(dict.fromkeys(span.lanes, (limit[n], shares[n])))
    return limit, shares
