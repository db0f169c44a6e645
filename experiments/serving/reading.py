"""A slice where prompts are read: keys, values and the first token, one prompt at a time."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from ... import runtime as rt
from ...models import PalmConfig, read_prompt
from .generation import Generation
from .keys import key_width

# Tokens of the shortest bucket of prompts.
SHORTEST = 16


class Reading(NamedTuple):
    """A prompt that is being read.

    Attributes:
        generation: whose.
        began: by `time.perf_counter`.
        memory: keys and values, which stay where they are made.
        first: the token after the prompt.
    """

    generation: Generation
    began: float
    memory: Any
    first: Any


def prompt_buckets(room: int) -> tuple[int, ...]:
    """Lengths that prompts are padded to: powers of two, so that few programs are compiled.

    Examples:
        >>> prompt_buckets(100)
        (16, 32, 64, 100)
    """
    found, length = [], SHORTEST
    while length < room:
        found.append(length)
        length *= 2
    return (*found, room)


class Reader:
    """Prompts on one slice.

    Attributes:
        slice: where.
        pending: prompts that were sent, oldest first.
        alive: its island is there.
    """

    def __init__(self, config: PalmConfig, params: Any, part: rt.Slice, room: int):
        """Args:
        config, params: of the model.
        part: the slice; parameters are put there.
        room: tokens of the longest prompt.
        """
        self._config, self._host, self._room = config, params, room
        self.slice = part
        self.pending: deque[Reading] = deque()
        self.alive = False
        self.start()

    def start(self) -> None:
        """Puts the parameters there; again, after its island was lost and came back."""
        read = functools.partial(read_prompt, self._config)
        self._read = rt.computation(read, self.slice, name="read prompt")
        self._params = self.slice.put(self._host)
        self._ladder = rt.Ladder(prompt_buckets(self._room))
        self.alive = True

    def send(self, generation: Generation) -> None:
        """Has a prompt read, with what was made of it already."""
        tokens, made = generation.so_far, generation.made
        padded = np.zeros(self._ladder(len(tokens)), np.int32)
        padded[: len(tokens)] = tokens
        wanted = generation.wanted
        memory, first = self._read(
            self._params,
            padded,
            np.int32(len(tokens)),
            np.int32(wanted.top_k or self._config.vocab_size),
            np.float32(wanted.temperature),
            generation.keys[made],
        )
        self.pending.append(Reading(generation, time.perf_counter(), memory, first))

    def lost(self) -> list[Generation]:
        """Whose prompts will not be read, if this slice's arrays are gone."""
        return [reading.generation for reading in self.pending if not reading.generation.done]

    def forget(self) -> None:
        """What is here is gone: nobody waits for it, and it counts no more."""
        self.alive = False
        self.pending.clear()

    def compile(self) -> list[Any]:
        """Compiles for every length of prompt, so that no request waits for it.

        Returns:
            keys and values of a prompt of each length.
        """
        key, one, heat = np.zeros(key_width(), np.uint32), np.int32(1), np.float32(0)
        made = [
            self._read(self._params, np.zeros(length, np.int32), one, one, heat, key)
            for length in self._ladder.rungs
        ]
        for _, first in made:
            first.result()
        return [memory for memory, _ in made]

    @property
    def compiled(self) -> int:
        """How many lengths it is compiled for."""
        return self._read.compiled
