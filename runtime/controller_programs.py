"""Slices and programs of all clients of a controller: found again by who comes back."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections import OrderedDict
from typing import Any

from .attach_code import unpack_program
from .attach_errors import NameTaken, NameUnknown
from .errors import ProgramError, SliceError
from .programs import Program
from .resources import Slice

# So many programs without a name are remembered that no client has any more.
REMEMBERED = 64


class SharedSlices:
    """Slices by number. A client that asks gets one that nobody has, if there is such a one."""

    def __init__(self, system: Any):
        self._system = system
        self._slices: dict[int, Slice] = {}
        self._holders: dict[int, set[Any]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def take(self, holder: Any, island: str | None, shape: dict[str, int]) -> int:
        """The number of a slice for a client.

        Raises:
            SliceError, IslandLost: as of `add_slice`.
        """
        with self._lock:
            devices = self._system.virtual_devices(island)
            for number, part in sorted(self._slices.items()):
                alike = part.island is devices.island and part.shape == shape
                if alike and not self._holders[number] and not part.island.lost:
                    self._holders[number].add(holder)
                    return number
            number = next(self._numbers)
            self._slices[number] = devices.add_slice(shape)
            self._holders[number] = {holder}
            return number

    def hold(self, holder: Any, number: int) -> None:
        """A client has got to know a slice by a program on it."""
        with self._lock:
            self._holders[number].add(holder)

    def get(self, number: int) -> Slice:
        """By number.

        Raises:
            SliceError: nobody had it for a while.
        """
        found = self._slices.get(number)
        if found is None:
            raise SliceError(f"there is no slice {number} any more: add another")
        return found

    def told(self, number: int) -> tuple[int, str, dict[str, int]]:
        """What a client knows of a slice."""
        part = self.get(number)
        return number, part.island.name, part.shape

    def leave(self, holder: Any, used: set[int]) -> None:
        """A client has none any more; who is in no program (`used`) and nobody's is forgotten."""
        with self._lock:
            for number, holders in list(self._holders.items()):
                holders.discard(holder)
                if not holders and number not in used:
                    del self._holders[number], self._slices[number]

    def __len__(self) -> int:
        return len(self._slices)


@dataclasses.dataclass(eq=False)
class Entry:
    """A program that clients sent.

    Attributes:
        key: by which it is known again.
        payload: as it was sent.
        program: with all that was traced and compiled of it.
        slices: numbers of those it is on.
        names: that it has.
        holders: clients that know it now.
    """

    key: str
    payload: bytes
    program: Program
    slices: set[int]
    names: set[str] = dataclasses.field(default_factory=set)
    holders: set[Any] = dataclasses.field(default_factory=set)


class SharedPrograms:
    """Programs by key and by name; those that nobody has and that have no name, the latest few."""

    def __init__(self, slices: SharedSlices):
        self._slices = slices
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self.names: dict[str, str] = {}
        self._lock = threading.RLock()

    def has(self, holder: Any, key: str) -> bool:
        """Whether it is there; if so it stays as long as the client."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return False
            found.holders.add(holder)
            self._entries.move_to_end(key)
            return True

    def add(self, holder: Any, key: str, payload: bytes) -> None:
        """Makes a program of what a client sent.

        Raises:
            ProgramError, SliceError: it cannot be made here.
        """
        used: set[int] = set()

        def slice_of(number: int) -> Slice:
            used.add(number)
            return self._slices.get(number)

        program = unpack_program(payload, slice_of)
        with self._lock:
            if not self.has(holder, key):  # another client may have been faster
                self._entries[key] = Entry(key, payload, program, used, holders={holder})

    def get(self, key: str) -> Entry:
        """By key.

        Raises:
            ProgramError: it is not there.
        """
        found = self._entries.get(key)
        if found is None:
            raise ProgramError(f"the controller has no program {key[:12]}…: make it anew")
        return found

    def name(self, name: str, key: str, replace: bool) -> None:
        """Gives a program a name.

        Raises:
            NameTaken: another has it, and `replace` is false.
        """
        with self._lock:
            if name in self.names and not replace:
                raise NameTaken(taken("program", name))
            if name in self.names:
                self.unname(name)
            self.names[name] = key
            self.get(key).names.add(name)

    def unname(self, name: str) -> None:
        """Takes a name away.

        Raises:
            NameUnknown: nothing has it.
        """
        with self._lock:
            key = self.key_of(name)
            del self.names[name]
            self._entries[key].names.discard(name)
            self._forget()

    def key_of(self, name: str) -> str:
        """Raises NameUnknown if nothing has this name."""
        if name not in self.names:
            raise NameUnknown(unknown("program", name, self.names))
        return self.names[name]

    def leave(self, holder: Any) -> None:
        """A client knows none any more."""
        with self._lock:
            for entry in self._entries.values():
                entry.holders.discard(holder)
            self._forget()
            used = {n for entry in self._entries.values() for n in entry.slices}
        self._slices.leave(holder, used)

    def _forget(self) -> None:
        idle = [key for key, e in self._entries.items() if not e.names and not e.holders]
        for key in idle[: max(0, len(idle) - REMEMBERED)]:
            del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)


def taken(kind: str, name: str) -> str:
    """The message of NameTaken."""
    attribute = "names" if kind == "value" else "programs"
    return (
        f"a {kind} named {name!r} is there already: system.{attribute}.replace({name!r}, …) puts "
        f"another in its place, del system.{attribute}[{name!r}] frees it"
    )


def unknown(kind: str, name: str, there: Any) -> str:
    """The message of NameUnknown."""
    said = f"there are {sorted(there)}" if there else "nothing has one yet"
    return f"no {kind} is named {name!r}: {said}"
