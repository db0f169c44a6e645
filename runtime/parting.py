"""A plan's calls cut into segments, between the nodes whose work depends on data.

A segment is sent as soon as what it depends on is known: one that needs no conditional node goes
before all reads, wherever it stands in the program.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from .backend import LONGEST
from .graph import Node
from .resources import Slice
from .steps import GANGS, Expansion, Segment, Step


@dataclasses.dataclass(frozen=True)
class Call:
    """A step in the making: what is called, before it is known what can be dropped when.

    Attributes:
        part: where; None of a conditional node.
        node: index in the graph.
        inputs: slots.
        outputs: slots.
        call: see `Step`.
        watched: see `Step`.
        donated: slots whose arrays are gone afterwards.
        gang: it runs on several devices.
        transfer: it only moves.
        expands: the conditional node.
    """

    part: Slice | None
    node: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    call: Callable[..., list[Any]] | None = None
    watched: int = 0
    donated: tuple[int, ...] = ()
    gang: bool = False
    transfer: bool = False
    expands: Node | None = None


def parted(
    calls: Sequence[Call],
    results: Collection[int],
    fixed: Collection[int],
    lent: Collection[int],
    sizes: dict[int, int],
    made_by: dict[int, int],
    gangs: int = GANGS,
    longest: int = LONGEST,
) -> tuple[tuple[Segment | Expansion, ...], dict[int, int]]:
    """Segments and expansions in order, and how many parts use each slot that several do.

    Args:
        calls: in program order.
        results: slots that the program returns.
        fixed: slots of constants.
        lent: slots whose arrays are not ours alone: arguments, constants, copies that share memory.
        sizes: bytes by slot.
        made_by: node by slot.
        gangs: most nodes on several devices in a segment.
        longest: most nodes in a segment.
    """
    groups, numbers, needs = _grouped(calls, gangs, longest)
    users: dict[int, dict[int, int]] = {}  # by slot: the last call of each part that has it
    for number, group in enumerate(groups):
        for call in group:
            for slot in (*call.outputs, *call.inputs):
                users.setdefault(slot, {})[number] = numbers[id(call)]
    keep = {*results, *fixed}
    shared: list[list[int]] = [[] for _ in groups]
    drops: dict[int, list[int]] = {}  # by the number of the call
    uses: dict[int, int] = {}
    for slot, parts in users.items():
        if slot in keep:
            continue
        if len(parts) == 1:
            (last,) = parts.values()
            drops.setdefault(last, []).append(slot)
        else:
            uses[slot] = len(parts)
            for number in parts:
                shared[number].append(slot)
    read = {
        slot
        for call in calls
        if call.expands is not None and call.expands.conditional is not None
        for slot in call.inputs[: call.expands.conditional.reads]
    }
    places: dict[Slice, tuple[int, ...]] = {}  # once a slice: it may have thousands
    for call in calls:
        if call.part is not None and call.part not in places:
            places[call.part] = tuple(device.id for device in call.part.devices)
    found: list[Segment | Expansion] = []
    for number, group in enumerate(groups):
        first = group[0]
        common = tuple(shared[number])
        if first.expands is not None:
            own = frozenset(n for n, slot in enumerate(first.inputs) if slot in lent)
            drop = tuple(drops.get(numbers[id(first)], ()))
            found.append(
                Expansion(
                    first.expands, first.inputs, first.outputs, drop, own, needs[number], common
                )
            )
            continue
        assert first.part is not None
        held = peak = 0
        steps = []
        for call in group:
            assert call.call is not None
            assert call.part is not None
            drop = tuple(drops.get(numbers[id(call)], ()))
            held += sum(sizes[slot] for slot in call.outputs)
            peak = max(peak, held)
            held -= sum(sizes[slot] for slot in drop)
            steps.append(
                Step(
                    call.call,
                    call.inputs,
                    call.outputs,
                    drop,
                    call.watched,
                    call.node,
                    places[call.part],
                    call.transfer,
                    tuple(sorted({made_by[slot] for slot in call.inputs})),
                )
            )
        made = {slot for call in group for slot in call.outputs}
        found.append(
            Segment(
                first.part.island,
                tuple(steps),
                sum(call.gang for call in group),
                peak,
                held,
                needs[number],
                common,
                tuple(sorted(made & read)),
            )
        )
    return tuple(found), uses


def _grouped(
    calls: Sequence[Call], most: int, longest: int
) -> tuple[list[list[Call]], dict[int, int], list[frozenset[int]]]:
    """Calls in parts; each call's number by its id; and the expansions that each part needs."""
    groups: list[list[Call]] = []
    needs: list[frozenset[int]] = []
    numbers: dict[int, int] = {}
    known: dict[int, frozenset[int]] = {}  # by slot: what must have been expanded
    readers: dict[int, frozenset[int]] = {}  # by slot: the same of those that read it
    gangs = 0
    for number, call in enumerate(calls):
        numbers[id(call)] = number
        mine = frozenset[int]().union(*(known.get(slot, frozenset()) for slot in call.inputs))
        # What it takes over, others must have read before.
        mine = mine.union(*(readers.get(slot, frozenset()) for slot in call.donated))
        last = groups[-1] if groups else None
        if (
            call.expands is not None
            or last is None
            or last[0].expands is not None
            or call.part is None
            or last[0].part is None
            or last[0].part.island is not call.part.island
            or needs[-1] != mine
            or len(last) == longest
            or gangs + call.gang > most
        ):
            groups.append([call])
            needs.append(mine)
            gangs = int(call.gang)
        else:
            last.append(call)
            gangs += call.gang
        after = mine
        if call.expands is not None:
            after = mine | {len(groups) - 1}
        for slot in call.outputs:
            known[slot] = after
        for slot in call.inputs:
            readers[slot] = readers.get(slot, frozenset()) | after
    return groups, numbers, needs
