"""A recording in a few numbers: who idled, what was woken, and what the time was spent on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from .spans import Span, makers

Device = tuple[str, int]  # island and id


@dataclasses.dataclass(frozen=True)
class TraceSummary:
    """What a recording says.

    Attributes:
        wall: seconds from the first enqueuing to the last end.
        idle: share of `wall` in which a device computed nothing, by (island, id).
        nodes: that ran, woken ones among them.
        transfers: batches of copies.
        expanded: conditional nodes.
        woken: nodes that those made.
        reads: seconds in which the controller waited for counts.
        dispatch: seconds it took to enqueue all.
        failed: spans that ended with an error.
        critical: the chain of makers and users on which most time passed, in order.
    """

    wall: float
    idle: Mapping[Device, float]
    nodes: int
    transfers: int
    expanded: int
    woken: int
    reads: float
    dispatch: float
    failed: int
    critical: tuple[Span, ...]

    @property
    def critical_seconds(self) -> float:
        """Seconds that the spans of the critical path ran, each second counted once."""
        return sum((seconds for _, _, seconds in self.critical_names()), 0.0)

    def critical_names(self) -> list[tuple[str, int, float]]:
        """The critical path in short: (name, spans, seconds), of neighbours with equal names."""
        found: list[tuple[str, int, float]] = []
        before: Span | None = None
        for span in self.critical:
            name = span.name if span.kind == "node" else f"{span.kind} {span.name}"
            adds = _adds(span, before)
            if found and found[-1][0] == name:
                _, count, seconds = found[-1]
                found[-1] = (name, count + 1, seconds + adds)
            else:
                found.append((name, 1, adds))
            before = span
        return found

    def __str__(self) -> str:
        """For people, a fact a line."""
        lines = [
            f"wall {_time(self.wall)}: {self.nodes} nodes, {self.transfers} batches of copies",
            f"controller: {_time(self.dispatch)} enqueuing, {_time(self.reads)} waiting for counts",
        ]
        if self.expanded:
            lines.append(f"conditional: {self.expanded} expanded, {self.woken} nodes woken")
        if self.failed:
            lines.append(f"failed: {self.failed}")
        for (island, device), share in self.idle.items():
            lines.append(f"idle: device {device} of {island} {share:.0%}")
        if self.critical:
            lines.append(f"critical path: {_time(self.critical_seconds)}")
        for name, count, seconds in self.critical_names():
            times = f" ×{count}" if count > 1 else ""
            lines.append(f"  {_time(seconds):>9}  {name}{times}")
        return "\n".join(lines)


def summarise(spans: Sequence[Span], devices: Sequence[Device] = ()) -> TraceSummary:
    """Sums up a recording.

    Args:
        spans: of `Recorder.close`.
        devices: (island, id) of devices that count although they did nothing.

    Examples:
        >>> print(summarise([]))
        wall 0.000 ms: 0 nodes, 0 batches of copies
        controller: 0.000 ms enqueuing, 0.000 ms waiting for counts
    """
    work = [span for span in spans if span.by_device]
    begins = min((min(span.began, span.sent_began) for span in spans), default=0.0)
    wall = max((max(span.ended, span.sent_ended) for span in spans), default=begins) - begins
    busy: dict[Device, float] = dict.fromkeys(devices, 0.0)
    for span in work:
        for device in span.devices:
            key = span.island, device
            # Lanes hold no overlaps, so that seconds add up.
            busy[key] = busy.get(key, 0.0) + (span.seconds if span.kind == "node" else 0.0)
    idle = {key: 1 - busy[key] / wall if wall else 1.0 for key in sorted(busy)}
    return TraceSummary(
        wall=wall,
        idle=idle,
        nodes=sum(span.kind == "node" for span in work),
        transfers=sum(span.kind == "transfer" for span in work),
        expanded=len({(span.run, span.node) for span in spans if not span.by_device}),
        woken=sum(span.kind == "node" and span.woken_by is not None for span in work),
        reads=sum((span.seconds for span in spans if span.kind == "read"), 0.0),
        dispatch=sum((span.sent_ended - span.sent_began for span in work), 0.0),
        failed=sum(span.failed for span in spans),
        critical=_critical(spans),
    )


def _adds(span: Span, before: Span | None) -> float:
    """Seconds that a span adds to a chain: a wait for its maker is the maker's time."""
    begins = span.began if before is None else max(span.began, before.ended)
    return max(0.0, span.ended - begins)


def _critical(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The longest chain by time; makers are sent before their users."""
    if not spans:
        return ()
    longest: list[float] = []
    came_from: list[int | None] = []
    for span, before in zip(spans, makers(spans), strict=True):
        whole = [(longest[n] + _adds(span, spans[n]), n) for n in before]
        best, last = max(whole, default=(span.seconds, None))
        longest.append(best)
        came_from.append(last)
    place: int | None = max(range(len(spans)), key=longest.__getitem__)
    chain: list[Span] = []
    while place is not None:
        chain.append(spans[place])
        place = came_from[place]
    return tuple(reversed(chain))


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds < 1 else f"{seconds:.3f} s"
