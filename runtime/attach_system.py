"""A cluster that is attached to: it is used as a runtime, and stays when its client leaves."""

from __future__ import annotations

import weakref
from typing import Any

import jax

from .attach_code import pack_program, unpack_program
from .attach_exchange import Exchange
from .attach_names import Names, Programs
from .attach_plan import AttachedPlan
from .attach_slices import AttachedDevices, AttachedIsland, AttachedSlice
from .attach_values import AttachedValue, Bank, wires
from .branches import Branches
from .errors import ProgramError
from .graph import Graph, Shape
from .programs import Program


class Attached:
    """A client of a cluster's controller: `rt.attach()` makes it.

        with rt.attach() as system:
            part = system.virtual_devices("island0").add_slice(1)
            double = rt.computation(lambda x: 2 * x, part)
            system.names["y"] = double(jnp.ones(4))

    Programs are traced here, for shapes and errors, and again by the controller, which runs them;
    a call is one message, and its futures are there at once. What has no name is freed when this
    client leaves, or dies.

    Attributes:
        name: of this client of the controller's runtime.
        where: the controller's address.
        names: values by name.
        programs: programs by name.
        exchange: its end of the line.
    """

    def __init__(self, exchange: Exchange):
        self.exchange, self.name, self.where = exchange, exchange.name, exchange.where
        self.names, self.programs = Names(self), Programs(self)
        self._slices: weakref.WeakValueDictionary[int, AttachedSlice] = (
            weakref.WeakValueDictionary()
        )
        self._banks: weakref.WeakKeyDictionary[Branches, Bank] = weakref.WeakKeyDictionary()
        # By the program; one that came from there has its key, whatever it would be from here.
        self._keys: weakref.WeakKeyDictionary[Program, str] = weakref.WeakKeyDictionary()
        self._close = weakref.finalize(self, exchange.close)

    # As of a runtime.

    def virtual_devices(self, island: str | None = None) -> AttachedDevices:
        """A set to add slices to, on a named island or on the least crowded.

        Raises:
            SliceError: no such island; when a slice is added.
        """
        return AttachedDevices(self, island)

    @property
    def islands(self) -> dict[str, AttachedIsland]:
        """By name, as they are now."""
        return {told[0]: AttachedIsland(*told) for told in self.ask("islands")}

    @property
    def resources(self) -> Any:
        """Raises ProgramError: what slices stand on, and so traces, are the controller's."""
        raise ProgramError(
            f"{self!r} has no devices to look at: recording and mapping are of the controller's "
            "process; status() tells what it does"
        )

    def restart_island(self, name: str) -> None:
        """As of a runtime: a lost island is there again, in a new process; what was on it stays
        lost. Every client's slices stand on it as they stood.

        Raises:
            SliceError: no such island.
            IslandLost: its process does not come.
        """
        self.ask("restart", name)

    def status(self) -> dict[str, Any]:
        """Islands, clients, programs and names, as `byways cluster status --json` tells them."""
        return self.ask("status")

    def close(self) -> None:
        """Leaves: what has no name is freed. May be called twice."""
        self._close()

    # What slices, plans and names use.

    def ask(self, what: str, *args: Any, timeout: float | None = None) -> Any:
        """As `Exchange.ask`."""
        return self.exchange.ask(what, *args, timeout=timeout)

    def tell(self, *message: Any) -> None:
        """As `Exchange.tell`."""
        self.exchange.tell(*message)

    def slice(self, number: int, island: str, shape: dict[str, int]) -> AttachedSlice:
        """The slice with a number of the controller's; one object each."""
        found = self._slices.get(number)
        if found is None:
            found = AttachedSlice(self, number, AttachedIsland(island), shape)
            self._slices[number] = found
        return found

    def put(self, part: AttachedSlice, leaves: list[Any]) -> list[AttachedValue]:
        """Arrays on a slice."""
        handles, given = wires(self, leaves)
        numbers = self.exchange.numbers(len(leaves))
        self.exchange.call("put", part.number, handles, given, numbers.start)
        return [
            AttachedValue(self, number, Shape(jax.numpy.shape(leaf), _dtype(leaf)))
            for number, leaf in zip(numbers, leaves, strict=True)
        ]

    def bank(self, branches: Branches) -> Bank:
        """Parameters of branches at the controller, sent again only when they changed."""
        found = self._banks.get(branches)
        if found is None or not found.serves(branches):
            found = self._banks[branches] = Bank(self, branches)
        return found

    def plan(self, program: Program, graph: Graph, args: tuple[Any, ...]) -> AttachedPlan:
        """What `Program` calls for shapes that it has not had yet."""
        return AttachedPlan(self, program, graph, args)

    def register(self, program: Program) -> str:
        """Sees to it that the controller has a program's code; its key."""
        key, payload = self._keys.get(program), None
        if key is None:
            key, payload = pack_program(program)
        if not self.ask("code", key) and payload is not None:
            self.ask("new code", key, payload)
        return key

    def program(self, key: str, payload: bytes, slices: list[tuple]) -> Program:
        """A program of the controller's, as one of this client's."""
        known = {number: self.slice(number, island, shape) for number, island, shape in slices}
        found = unpack_program(payload, known.__getitem__)
        self._keys[found] = key
        return found

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        left = " (left)" if self.exchange.ended is not None else ""
        return f"Attached({self.name!r} to {self.where}{left})"


def _dtype(leaf: Any) -> Any:
    kind = getattr(leaf, "dtype", None)
    return jax.dtypes.canonicalize_dtype(jax.numpy.result_type(leaf) if kind is None else kind)
