"""What a plan is made of: calls, segments of them, and conditional nodes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from .graph import Node
from .resources import Island

# Gangs in a turn: so few that two turns of them fit the window of collectives.
GANGS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One call: leaves out of slots, leaves into slots.

    Attributes:
        call: arrays in, a list of arrays out; a compiled function or a batched transfer.
        inputs: slots.
        outputs: slots.
        drop: slots that nobody needs after it.
        watched: which output shows that it is done; -1 is none.
        node: index in the graph.
        devices: ids, for traces.
        transfer: it only moves.
        parents: nodes that made its inputs, for traces.
    """

    call: Callable[..., list[Any]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drop: tuple[int, ...]
    watched: int
    node: int
    devices: tuple[int, ...]
    transfer: bool
    parents: tuple[int, ...]


@dataclasses.dataclass(slots=True)
class Segment:
    """Steps of one island that are enqueued in one turn.

    Attributes:
        island: where.
        steps: in order.
        gangs: how many run on several devices.
        peak: most bytes that its steps add to what is held, at any moment.
        change: bytes that they add in the end.
        needs: the expansions (places in `Plan.parts`) without which it cannot be sent.
        shared: slots that other parts use too; the last to use one drops it.
        reads: slots that an expansion will read, whose copies to the host begin at once.
        seconds: how long it took lately; None before it was timed.
        turns: how many turns of it were granted while others waited.
    """

    island: Island
    steps: tuple[Step, ...]
    gangs: int
    peak: int
    change: int
    needs: frozenset[int]
    shared: tuple[int, ...]
    reads: tuple[int, ...]
    seconds: float | None = None
    turns: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Expansion:
    """A conditional node: its inputs' slots, and where its outputs go.

    Attributes:
        node: the node.
        inputs: slots.
        outputs: slots.
        drop: slots that nobody needs after it.
        lent: those of its inputs (by position) whose arrays others may have: never donated.
        needs: as a segment's.
        shared: as a segment's.
    """

    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    drop: tuple[int, ...]
    lent: frozenset[int]
    needs: frozenset[int]
    shared: tuple[int, ...]


@functools.lru_cache(maxsize=1024)
def resharder(shape: tuple[int, ...], dtype: Any, have: Sharding, wanted: Sharding) -> Any:
    """An array to the same one spread otherwise over the same devices; it is a collective.

    `device_put` would wait for the array and go through the host.
    """
    kind = jax.ShapeDtypeStruct(shape, dtype)
    spread = jax.jit(lambda x: [x], in_shardings=have, out_shardings=[wanted])
    return spread.lower(kind).compile()


class Mover:
    """Arrays to arrays on other devices, in one batch; returns before they are there.

    Attributes:
        targets: where each goes.
    """

    def __init__(self, targets: Sequence[Sharding]):
        self.targets = list(targets)

    def __call__(self, *arrays: Any) -> list[Any]:
        return jax.device_put(list(arrays), self.targets)

    def only(self, places: Sequence[int]) -> Mover:
        """Of some of them."""
        return Mover([self.targets[place] for place in places])
