"""A future of one logical array, whatever the number of its shards."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .branches import Awaited
from .errors import IslandLost, NodeError, RunTimeout, StoreFull, ValueReleased
from .faults import again, bare
from .waiting import fetched, is_gone, is_ready

if TYPE_CHECKING:
    from .client import Client
    from .run import Run


_NOTHING: list[int] = []


class Value:
    """A result that may not be there yet. It is a leaf of pytrees.

    Attributes:
        shape: of the whole array.
        dtype: of the array.
    """

    __slots__ = ("__weakref__", "_array", "_client", "_gone", "_held", "_node", "_run", "aval")

    def __init__(self, run: Run, node: int, aval: jax.ShapeDtypeStruct, client: Client):
        self._run, self._node, self.aval, self._client = run, node, aval, client
        self._array: Any = None
        self._gone: str | None = None
        self._held = _NOTHING
        client.values[id(self)] = weakref.ref(self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def maker(self) -> tuple[int, int]:
        """Number of the run and index of the node that make it, as in traces."""
        return self._run.number, self._node

    def result(self, timeout: float | None = None) -> Any:
        """The array, when it is computed; of a sparse gradient, `Sparse`.

        Args:
            timeout: seconds to wait; None is the runtime's own limit, if it has one.

        Raises:
            NodeError: its node failed, or one that it depends on.
            RunTimeout: it did not come in time; ask again to wait longer.
            ValueReleased, Cancelled, IslandLost: it will never come.
        """
        return fetched(self._computed(timeout))

    def array(self, timeout: float | None = None) -> Any:
        """The array where it was made, maybe not computed yet; waits only for reads before it."""
        if self._gone is not None:
            raise ValueReleased(f"{self!r} was used after it was gone: {self._gone}")
        if self._array is None:
            self._run.drive(self, timeout)
        array = self._array
        if array is None:  # released meanwhile
            raise ValueReleased(f"{self!r} was used after it was gone: {self._gone}")
        if isinstance(array, BaseException):
            raise again(array) from array.__cause__
        island = self._run.island_of(self._node)
        if island is not None and self._run.lost(island.name):
            raise IslandLost(f"island {island.name!r} is lost, and with it {self!r}")
        if is_gone(array):
            self._gone = "it was donated"
            raise ValueReleased(f"{self!r} was used after it was gone: {self._gone}")
        if isinstance(array, Awaited):  # who was awake has to be heard first
            for read in array.read:
                self._run.wait(read, self._node, timeout)
            array = self._array = array.known()
        return array

    def done(self) -> bool:
        """It is computed, or has failed; never waits."""
        if self._gone is not None:
            return True
        if self._array is None:
            self._run.advance()
        array = self._array
        if array is None:
            return False
        return isinstance(array, BaseException) or is_gone(array) or is_ready(array)

    def release(self, why: str = "it was released") -> None:
        """Frees it now; further use raises. May be called twice."""
        if self._gone is None:
            self._gone = why
            self._free()

    def lose(self) -> None:
        """If it was on an island that is gone, holds nothing there any more."""
        island, array = self._run.island_of(self._node), self._array
        if island is None or array is None or isinstance(array, BaseException):
            return
        if self._run.lost(island.name):
            self._free()
            self._array = IslandLost(f"island {island.name!r} is lost, and with it {self!r}")

    def finish(self) -> None:
        """Sends all of its run, which may need this value itself, before it is donated."""
        self._run.finish()

    def cancel(self) -> None:
        """Cancels what its run has not sent yet."""
        self._run.cancel("it was cancelled")

    def block_until_ready(self) -> Value:
        """For `jax.block_until_ready`; what is on an island of another process stays there."""
        self._computed(None)
        return self

    def __await__(self) -> Generator[Any, None, Any]:
        while not self.done():
            yield from asyncio.sleep(0.0002).__await__()
        return self.result()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._computed(None), dtype)  # of an island: not by way of a device here

    def __jax_array__(self) -> jax.Array:
        return fetched(self.array())

    def __del__(self) -> None:
        self._client.values.pop(id(self), None)
        self._free()

    @property
    def unknown(self) -> bool:
        """Its run has not said yet what it is."""
        return self._array is None and self._gone is None

    def set(self, array: Any, held: int) -> None:
        """The run's word on what it is: an array, or the error instead of one.

        Args:
            array: of a node, or an exception.
            held: bytes that the store has counted, and that are this value's from now on.
        """
        if held:
            self._held = [held]
        self._array = array
        if self._gone is not None:  # by now: another thread may have looked too early
            self._free()

    def _computed(self, timeout: float | None) -> Any:
        """The array where it was made, when it is computed."""
        array = self.array(timeout)
        try:
            self._run.wait(array, self._node, timeout)
        except (NodeError, IslandLost, StoreFull) as error:
            self._fail(bare(again(error)))
            raise
        return array

    def _fail(self, error: BaseException) -> None:
        """It was asked for, and will never be: it holds nothing, and is refused as an argument."""
        if self._gone is None:
            self._free(error)

    def _free(self, instead: BaseException | None = None) -> None:
        # Without a lock or a global name, since a value may die anywhere, and when the interpreter
        # ends: whoever gets the number counts it off.
        self._array, held = instead, self._held
        if not held:  # the usual case, and cheaper than the exception
            return
        try:  # noqa: SIM105
            self._run.system.store.let_go(self._run, self._node, held.pop(), self._client)
        except IndexError:
            pass

    def __repr__(self) -> str:
        made = self._run.node_name(self._node)
        return f"Value({self.aval.dtype}{list(self.aval.shape)} of {made})"


def arrays(tree: Any) -> Any:
    """Futures as arrays, which may still be computed; other leaves stay as they are.

    Waits only for the reads that are in front of them. They are where they were made: arguments of
    other programs as they are, and for `jnp` and NumPy by `jnp.asarray`, which waits and brings
    them to this process if they are of another.

    Raises:
        as `Value.array`.
    """
    return jax.tree.map(lambda leaf: leaf.array() if isinstance(leaf, Value) else leaf, tree)


def fetch(tree: Any, timeout: float | None = None) -> Any:
    """Waits for a tree of futures; other leaves stay as they are.

    Arrays that are on islands of other processes come here, too.

    Raises:
        as `Value.result`; RunTimeout counts for all together.
    """
    end = None if timeout is None else time.monotonic() + timeout

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, Value):
            return fetched(leaf)
        if end is None:
            return leaf.result()
        left = end - time.monotonic()
        if left <= 0 and not leaf.done():
            raise RunTimeout(f"{leaf!r} was not there after {timeout} s")
        return leaf.result(max(left, 1e-3))

    return jax.tree.map(one, tree)
