"""Futures of what a cluster computes, as a client that is attached has them."""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .branches import Branches, OnDemand, Sparse
from .errors import ProgramError, ValueReleased
from .ray_wire import from_wire, to_wire
from .tracing import builder
from .values import Value

if TYPE_CHECKING:
    from .attach_system import Attached


class AttachedValue(Value):
    """A `Value` that is the controller's: here is its number.

    When nobody here refers to it any more, the controller is told; unless it has a name
    (`system.names`), it is freed then.
    """

    __slots__ = ("_freed", "_system", "number")

    def __init__(self, system: Attached, number: int, aval: jax.ShapeDtypeStruct):
        self._system, self.number, self.aval = system, number, aval
        self._gone: str | None = None
        self._freed = system.exchange.freed

    @property
    def maker(self) -> tuple[int, int]:
        raise ProgramError(f"{self!r} is the controller's, and so are its traces")

    def result(self, timeout: float | None = None) -> Any:
        if builder() is not None:
            raise ProgramError(
                f"the program that is traced refers to {self!r}, which would come here and go back "
                "with its code: pass it as an argument"
            )
        self._check()
        return unpacked(self._system.ask("fetch", self.number, timeout, timeout=timeout))

    def array(self, timeout: float | None = None) -> Any:
        """The same as `result`: what is computed stays there, or comes whole."""
        return self.result(timeout)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.result(), dtype)

    def done(self) -> bool:
        if self._gone is not None:
            return True
        return self._system.ask("ready", self.number)

    is_ready = done

    def release(self, why: str = "it was released") -> None:
        if self._gone is None:
            self._gone = why
            self._system.tell("release", self.number, why)

    def donated(self) -> None:
        """A program that was called takes it over."""
        self._gone = "it was donated"

    def lose(self) -> None:
        """Nothing: the controller sees to it."""

    def finish(self) -> None:
        self._system.ask("finish", self.number)

    def cancel(self) -> None:
        self._system.tell("cancel", self.number)

    @property
    def unknown(self) -> bool:
        return not self.done()

    def handle(self, system: Attached) -> int:
        """Its number, as an argument of a program of `system`.

        Raises:
            ValueReleased: it was released, or is of another attachment.
        """
        self._check()
        if system is not self._system:
            raise ValueReleased(
                f"{self!r} is of client {self._system.name!r}, and the program of client "
                f"{system.name!r}: give it a name there (system.names[…]) and take it by that here"
            )
        return self.number

    def _check(self) -> None:
        if self._gone is not None:
            raise ValueReleased(f"{self!r} was used after it was gone: {self._gone}")

    def __await__(self) -> Generator[Any, None, Any]:
        loop = asyncio.get_running_loop()
        return (yield from loop.run_in_executor(None, self.result).__await__())

    def __del__(self) -> None:
        # Anywhere, at any time: nothing here takes a lock or names a global.
        try:  # noqa: SIM105
            self._freed.append(self.number)
        except AttributeError:  # it was never made
            pass

    def __repr__(self) -> str:
        return f"AttachedValue({self.dtype}{list(self.shape)}, {self.number})"


class Bank:
    """A `Branches` that the controller has, too, until its trees change."""

    def __init__(self, system: Attached, branches: Branches):
        self.leaves, tree = jax.tree.flatten(branches.trees)
        (self.number,) = system.exchange.numbers(1)
        self._freed = system.exchange.freed
        system.exchange.call("bank", self.number, packed_tree(tree), *wires(system, self.leaves))

    def serves(self, branches: Branches) -> bool:
        """Whether its trees are still those."""
        now = jax.tree.leaves(branches.trees)
        return len(now) == len(self.leaves) and all(
            a is b for a, b in zip(now, self.leaves, strict=True)
        )

    def __del__(self) -> None:
        try:  # noqa: SIM105
            self._freed.append(self.number)
        except AttributeError:
            pass


def wires(system: Attached, leaves: list[Any]) -> tuple[list[int], dict[int, Any]]:
    """Leaves of arguments as they travel.

    Returns:
        numbers of what the controller has, 0 for what it has not; and that, by position.

    Raises:
        ProgramError: a leaf that cannot travel.
        ValueReleased: a future that is not there any more.
    """
    handles: list[int] = []
    given: dict[int, Any] = {}
    for place, leaf in enumerate(leaves):
        if type(leaf) is AttachedValue:
            handles.append(leaf.handle(system))
            continue
        if type(leaf) is Branches:
            handles.append(system.bank(leaf).number)
            continue
        if hasattr(leaf, "fetch"):
            woken = (
                ". Those that come when they wake are for a runtime of this process (RayRuntime)"
                if isinstance(leaf, OnDemand)
                else ""
            )
            raise ProgramError(
                f"{leaf!r} fetches in this process, and the program runs in the controller: give "
                f"the branches' parameters as Branches, of what slice.put(…) gave{woken}"
            )
        handles.append(0)
        given[place] = to_wire(leaf)
    return handles, given


def packed_tree(tree: Any) -> bytes:
    """The structure of arguments.

    Raises:
        ProgramError: it has nodes of classes that are not importable.
    """
    try:
        return pickle.dumps(tree)
    except Exception as error:
        raise ProgramError(
            f"the structure {tree} cannot go to the controller ({error}): make it of dicts, lists "
            "and tuples, or of classes of an installed package"
        ) from error


def packed(found: Any) -> tuple[str, Any]:
    """A result as it travels: an array, or trees of branches."""
    if type(found) is Sparse:
        return "sparse", {branch: jax.tree.map(to_wire, tree) for branch, tree in found.items()}
    return "array", to_wire(found)


def unpacked(sent: tuple[str, Any]) -> Any:
    """A result in arrays of this process."""
    kind, found = sent
    if kind == "sparse":
        # Random keys, as pairs, are no parameters.
        return Sparse({branch: jax.device_put(tree) for branch, tree in found.items()})
    # `jnp.asarray` would compile something for each shape.
    return from_wire(found) if isinstance(found, tuple) else jax.device_put(found)


@functools.cache
def tree_of(blob: bytes) -> Any:
    """What `packed_tree` packed.

    Raises:
        ProgramError: its classes are not here.
    """
    try:
        return pickle.loads(blob)
    except Exception as error:
        raise ProgramError(
            f"the structure of the arguments cannot be read by the controller ({error}): make it "
            "of dicts, lists and tuples, or of classes of an installed package"
        ) from error
