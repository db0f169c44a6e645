"""How a switch runs without gradients once its counts are known: plain data, one order of nodes.

Whoever reads the counts follows it: the controller, which wakes nodes on islands, or the island
itself (`ray_waking`), where nobody else needs to be asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .buckets import Ladder
from .switch_kinds import FORWARD
from .waking import Awake, awake_groups


@runtime_checkable
class Driver(Protocol):
    """Who sends the nodes; homes are numbers of the switch's slices."""

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        """One node; its inputs are at home there, and so are its outputs."""
        ...

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        """Arrays at other homes."""
        ...

    def owns(self, number: int) -> bool:
        """Whether one of the arrays given (the rows; or a home's cotangent) is nobody else's, so
        that its buffer may be written to."""
        ...

    def expect(self, branches: list[int]) -> None:
        """Their parameters will be asked for, in this order."""
        ...

    def params(self, branches: Sequence[int]) -> list[Any]:
        """Leaves of their parameters, at their home."""
        ...

    def used(self, branches: Sequence[int], out: Any) -> None:
        """The node that makes `out` was sent with their parameters."""
        ...


@dataclasses.dataclass(frozen=True)
class Forward:
    """Of a switch over rows of one shape.

    Attributes:
        rows: R, how many there are.
        ladder: of their buckets.
        homes: P, slices.
        together: branches of equal buckets that share a node.
        alike: what comes out has the shape of what goes in, so that one buffer serves both.
        beside: by home, whether it stands on the first one's device: what moves there is no copy.
    """

    rows: int
    ladder: Ladder
    homes: int
    together: int
    alike: bool
    beside: tuple[bool, ...]

    def groups(self, counts: np.ndarray) -> list[Awake]:
        """Who is awake, in which nodes.

        Raises:
            ValueError: counts that cannot be.
        """
        total = int(counts.sum())
        if total > self.rows or (counts < 0).any():
            raise ValueError(
                f"counts {counts.tolist()} sum to {total}, and there are {self.rows} rows"
            )
        return awake_groups(counts, self.ladder, self.homes, self.together)

    def run(self, driver: Driver, groups: Sequence[Awake], rows: Any) -> list[Any]:
        """Sends the nodes; gives every home's part, on the first."""
        kind, used = FORWARD.grouped(self.alike), {group.home for group in groups}
        copies = self.spread(driver, rows, used)
        buffers = list(copies)
        if self.alike:
            for h in used:
                if self.beside[h] if h else not driver.owns(0):
                    (buffers[h],) = driver.node("copy", h, [buffers[h]])
        driver.expect([branch for group in groups for branch in group.branches])
        for group in groups:
            params, h = driver.params(group.branches), group.home
            if self.alike:
                leaves = [buffers[h], group.spans, *params]
            else:
                if buffers[h] is copies[h]:
                    (buffers[h],) = driver.node("zeros", h, [])
                leaves = [buffers[h], copies[h], group.spans, *params]
            buffers[h] = driver.node(kind, h, leaves, group)[0]
            driver.used(group.branches, buffers[h])
        return self.home(driver, buffers, "zeros")

    def spread(self, driver: Driver, rows: Any, used: set[int]) -> list[Any]:
        """The rows at each home that is used."""
        away = [h for h in range(1, self.homes) if h in used]
        copies: list[Any] = [rows if 0 in used else None] + [None] * (self.homes - 1)
        if away:
            for h, copy in zip(away, driver.move([rows] * len(away), away), strict=True):
                copies[h] = copy
        return copies

    def home(self, driver: Driver, buffers: list[Any], blank: str) -> list[Any]:
        """Every home's part on the first; of one that had nothing to do, anything finite."""
        away = [h for h in range(1, self.homes) if buffers[h] is not None]
        parts: list[Any] = list(buffers)
        if away:
            moved = driver.move([buffers[h] for h in away], [0] * len(away))
            for h, part in zip(away, moved, strict=True):
                parts[h] = part
        there = next((part for part in parts if part is not None), None)
        if there is None:
            (there,) = driver.node(blank, 0, [])
        return [there if part is None else part for part in parts]
