"""A slice where tokens are made: rows of one batch, which requests enter and leave at any step."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from ... import runtime as rt
from ...models import Entry, PalmConfig, Slots, empty_slot, empty_slots, fill_slot, run_slots
from .generation import Generation
from .keys import key_width

# Steps that are sent as one, where nobody can enter or leave in between.
TOGETHER = (1, 4)


class Sent(NamedTuple):
    """Steps that were sent as one.

    Attributes:
        began: by `time.perf_counter`.
        steps: how many.
        told: the tokens that they make: of each step one for each row.
        rows: whose each row was then.
    """

    began: float
    steps: int
    told: Any
    rows: tuple[Generation | None, ...]


class Writer:
    """Rows on one slice. Nothing here waits: a step that was sent is read when it is done.

    Attributes:
        slice: where.
        rows: whose each row is; one is free as soon as the last step that it needs is sent.
        sent: steps that are not read yet, oldest first.
        alive: its island is there.
    """

    def __init__(self, config: PalmConfig, params: Any, part: rt.Slice, rows: int, room: int):
        """Args:
        config, params: of the model.
        part: the slice; parameters are put there.
        rows: S, requests at once.
        room: R, tokens of a prompt and of what is made of it.
        """
        self._config, self._host, self._room = config, params, room
        self.slice, self._many = part, rows
        self.sent: deque[Sent] = deque()
        self.forget()
        self._computations: dict[int, rt.Computation] = {}
        self.start()

    def start(self) -> None:
        """Puts parameters and empty rows there; again, after what was there is lost."""
        config, part = self._config, self.slice
        blank = functools.partial(empty_slots, config, self._many, self._room)
        self._fill = rt.computation(fill_slot, part, name="fill row", donate=(0,))
        self._clear = rt.computation(empty_slot, part, name="empty row", donate=(0,))
        params = part.put(self._host)
        self._steps = {steps: self._program(params, steps) for steps in TOGETHER}
        self._slots = rt.computation(blank, part, name="empty rows")()
        self.alive = True

    def _program(self, params: Any, steps: int) -> rt.Program:
        """So many steps as one, which takes and gives no more than changes, since each array of a
        program costs time at each call."""

        def run(params: Any, caches: Any, counters: Any, *fixed: Any) -> tuple[Any, Any, Any]:
            after, told = run_slots(self._config, params, Slots(caches, counters, *fixed), steps)
            return after.caches, after.counters, told

        made = rt.computation(run, self.slice, name=f"{steps} steps", donate=(1, 2))
        self._computations[steps] = made
        return rt.program(lambda *slots: made(params, *slots), name=f"{steps} steps")

    @property
    def taken(self) -> int:
        """Rows that somebody has."""
        return sum(row is not None for row in self.rows)

    def fill(self, generation: Generation, memory: Any) -> None:
        """Gives a free row to a request whose prompt was read; the memory is moved here."""
        row = self.rows.index(None)
        self.rows[row], self._due[row] = generation, generation.left
        wanted, tokens = generation.wanted, generation.tokens
        numbers = [
            row,
            tokens[-1],
            len(wanted.prompt) + len(tokens) - 1,
            len(tokens),
            generation.left,
            -1 if wanted.end is None else wanted.end,
            wanted.top_k or self._config.vocab_size,
        ]
        keys = np.zeros((self._room, generation.keys.shape[1]), np.uint32)
        keys[: len(generation.keys)] = generation.keys
        entry = _entry(numbers, wanted.temperature, keys)
        self._slots = self._fill(self._slots, memory, entry)

    @property
    def under_way(self) -> int:
        """Steps that were sent and are not read."""
        return sum(sent.steps for sent in self.sent)

    def together(self, most: int) -> int:
        """How many steps can be sent as one, so that no row is done before the last of them."""
        due = [due for due, row in zip(self._due, self.rows, strict=True) if row is not None]
        return max(steps for steps in TOGETHER if steps <= max(1, min(*due, most)))

    def send(self, steps: int) -> int:
        """Sends steps for all rows as one; how many rows are somebody's."""
        told = self._run(steps)
        told.array().copy_to_host_async()  # long before it is asked for
        taken = self.taken
        self.sent.append(Sent(time.perf_counter(), steps, told, tuple(self.rows)))
        for row, generation in enumerate(self.rows):
            if generation is not None:
                self._due[row] -= steps
                if not self._due[row]:
                    self.rows[row] = None
        return taken

    def _run(self, steps: int) -> Any:
        slots = self._slots
        caches, counters, told = self._steps[steps](*slots)
        self._slots = slots._replace(caches=caches, counters=counters)
        return told

    def leave(self, generation: Generation, *, clear: bool = False) -> None:
        """Frees its row, if it has one.

        Args:
            generation: which.
            clear: its row would go on without being told.
        """
        if generation in self.rows:
            row = self.rows.index(generation)
            self.rows[row] = None
            if clear:
                self._slots = self._clear(self._slots, np.int32(row))

    def lost(self) -> list[Generation]:
        """Whose tokens will not come, if this slice's arrays are gone."""
        there = [g for sent in self.sent for g in sent.rows] + self.rows
        return list({g.number: g for g in there if g is not None and not g.done}.values())

    def forget(self) -> None:
        """What is here is gone: nobody waits for it, and it counts no more."""
        self.alive = False
        self.rows: list[Generation | None] = [None] * self._many
        self._due = [0] * self._many  # steps that a row still needs, if no token ends it
        self.sent.clear()

    def compile(self, memories: list[Any]) -> None:
        """Compiles for every length of prompt, so that no request waits for it.

        Args:
            memories: keys and values of a prompt of each length.
        """
        none = _entry([0] * 7, 0.0, np.zeros((self._room, key_width()), np.uint32))
        for memory in memories:
            self._slots = self._fill(self._slots, memory, none)
        self._slots = self._clear(self._slots, np.int32(0))
        for steps in self._steps:
            self._run(steps).result()

    @property
    def compiled(self) -> int:
        """How many programs there are, of all lengths of prompt."""
        return self._fill.compiled + sum(one.compiled for one in self._computations.values())


def _entry(numbers: list[int], temperature: float, keys: np.ndarray) -> Entry:
    given: tuple[Any, ...] = np.array(numbers, np.int32), np.float32(temperature), keys
    return Entry(*given)
