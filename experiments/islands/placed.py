"""The parts of a step on islands: computations on each, and a program for each sharing of parts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...runtime import Program, Slice, computation
from .digest import digest
from .part_step import PartStep

# The island of each part, in the order of the parts.
Owners = tuple[str, ...]


class Placed:
    """The functions of a step on one island; each is compiled once, whichever parts it computes."""

    def __init__(self, step: PartStep, part: Slice):
        place = functools.partial(computation, slice=part)
        self.forward = place(step.forward, name="forward")
        self.backward = place(step.backward, name="backward")
        self.update = place(step.update, name="update")
        self.read = place(step.read_metrics, name="metrics")
        self.digest = place(digest, name="digest")
        self.copy = place(lambda tree: tree, name="copy")


class StepPrograms:
    """The step as programs over islands.

    Attributes:
        on: what stands on each island, by its name.
    """

    def __init__(self, step: PartStep, slices: Mapping[str, Slice]):
        self.on = {name: Placed(step, part) for name, part in slices.items()}
        # Constants of the programs: the very same objects each time.
        self._numbers = [np.int32(part) for part in range(step.parts)]
        self._exchange = step.exchange
        self._programs: dict[Owners, Program] = {}

    def owners(self, islands: Sequence[str]) -> Owners:
        """Neighbouring parts go to the same island, as evenly as they can."""
        parts = len(self._numbers)
        return tuple(islands[part * len(islands) // parts] for part in range(parts))

    def program(self, owners: Owners) -> Program:
        """(state of each island, rows of each part, what is known of all rows) -> each island's
        next state, and the loss."""
        if owners not in self._programs:
            self._programs[owners] = Program(functools.partial(self._step, owners), "step")
        return self._programs[owners]

    def _step(
        self, owners: Owners, states: Mapping[str, Any], rows: Sequence[Any], known: Any
    ) -> Any:
        parts = list(zip(self._numbers, owners, rows, strict=True))
        read = [
            self.on[name].forward(states[name], part_rows, part) for part, name, part_rows in parts
        ]
        found = [exchanged for exchanged, _ in read]
        gradients, told = [], {}
        for n, (part, name, part_rows) in enumerate(parts):
            seen = self._exchange.seen(found, known, n)
            backward = self.on[name].backward
            gradient, made = backward(states[name], part_rows, read[n][1], seen, part)
            gradients.append(gradient)
            told[name] = self._exchange.told(found, made)
        return {
            name: self.on[name].update(states[name], gradients, told[name])
            for name in dict.fromkeys(owners)
        }
