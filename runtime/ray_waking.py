"""A switch that its island expands by itself: one message, and nobody waits for the counts.

The controller sends, with the turn, whose counts and rows, the parameters of every branch by handle
and the keys of all executables that may be needed; the island reads the counts in process and runs
who is awake, by the same `Forward` as the controller would. Results have their handles beforehand.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .computations import Executable
from .ray_arrays import RayArray
from .ray_wire import pack_error
from .switch_forward import Forward
from .waking import Awake, node_sizes

if TYPE_CHECKING:
    from .conditional import Wake
    from .ray_island import IslandHost
    from .switches import _Over

_names = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Way:
    """What an island must know of a switch.

    Attributes:
        forward: the order of nodes.
        keys: of executables, by (kind, home, bucket, branches).
        spreads: of each home.
    """

    forward: Forward
    keys: dict[tuple[str, int, int, int], str]
    spreads: tuple[tuple, ...]


class Woken:
    """One switch over rows of one shape, for slices where they stand; the controller's side."""

    def __init__(self, over: _Over, keys: dict[tuple[str, int, int, int], str]):
        self.name, self.over = f"way {next(_names)} {id(over):x}", over
        self.slices = over.owner.slices
        homes: list[Any] = [part.sharding() for part in self.slices]
        self.outbox, self.where = homes[0].outbox, homes[0]
        self.way = Way(over.forward, keys, tuple(home.spread for home in homes))
        self.told = False

    def sending(self, counts: Any, rows: Any, bank: Any) -> Callable[[Wake], list[Any]] | None:
        """How it is sent; None where something of it is elsewhere."""
        import jax

        params = [jax.tree.leaves(tree) for tree in bank.fetch(range(self.over.owner.count))]
        for array in itertools.chain((counts, rows), *params):
            if type(array) is not RayArray or array.outbox is not self.outbox or array._deleted:
                return None
        if rows.sharding != self.where:
            return None
        return lambda wake: self.send(wake, counts, rows, params)

    def send(self, wake: Wake, counts: Any, rows: Any, params: list[list[Any]]) -> list[Any]:
        owned, outbox, out = wake.owns(1), self.outbox, self.over.out

        def call(counts: Any, rows: Any) -> list[Any]:
            numbers = [[leaf.number for leaf in leaves] for leaves in params]
            with outbox.lock:
                outbox.check()
                op = outbox.op()
                outs = outbox.numbers(self.way.forward.homes)
                way = None if self.told else self.way
                outbox.append(
                    ("wake", self.name, way, counts.number, rows.number, owned, numbers, outs)
                )
                self.told = True
            if owned:
                rows.donated()
            return [RayArray(op, n, out, self.where) for n in outs]

        whole = Executable(call, (), (), 0, 0, False, {})
        return wake.call(whole, [counts, rows], self.slices[0], "as a whole")


def woken(over: _Over) -> Woken | None:
    """For where its slices stand; None if they are on several islands, or not all is compiled."""
    parts = over.owner.slices
    first: Any = parts[0].devices[0]
    several = getattr(first.outbox, "hosts", 1) > 1  # each would have to read the counts
    if several or any(part.island is not parts[0].island for part in parts):
        return None
    forward, keys = over.forward, {}
    groups = [
        (bucket, count)
        for bucket in over.ladder.rungs
        for count in node_sizes(bucket, over.owner.together)
        if count <= over.owner.count
    ]
    alone = "copy" if over.alike else "zeros"
    needed = [(alone, 0, 0), ("zeros", 0, 0), *((forward.grouped, *group) for group in groups)]
    for home in range(over.homes):
        for kind, bucket, count in needed:
            found: Any = over.nodes.known((kind, bucket, count, over.key), home)
            if found is None:
                return None
            keys[kind, home, bucket, count] = found.call.key
    return Woken(over, keys)


class Waker:
    """The same on the island: a driver of `Forward` with arrays and executables at hand."""

    def __init__(self, host: IslandHost, way: Way, params: list[list[int]], owned: bool):
        self.host, self.way, self._params, self._owned = host, way, params, owned

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        bucket, count = (0, 0) if group is None else (group.bucket, len(group.branches))
        try:
            return self.host.codes[self.way.keys[kind, home, bucket, count]].call(*leaves)
        except Exception as error:
            if group is not None:
                error.add_note(f"of branches {group.branches}, {group.bucket} rows each")
            raise

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        import jax

        return jax.device_put(
            list(arrays), [self.host.sharding(self.way.spreads[h]) for h in homes]
        )

    def owns(self) -> bool:
        return self._owned

    def expect(self, branches: list[int]) -> None:
        """They are here."""

    def params(self, branches: Sequence[int]) -> list[Any]:
        return [self.host.value(n) for branch in branches for n in self._params[branch]]

    def used(self, branches: Sequence[int], out: Any) -> None:
        """They stay."""


def wake_here(
    host: IslandHost,
    name: str,
    way: Way | None,
    counts: int,
    rows: int,
    owned: bool,
    params: list[list[int]],
    outs: range,
) -> Any:
    """Reads the counts, which waits for them, and runs who is awake; what `Woken.send` sends.

    Args:
        name, way: by which it is known from then on; None if it is.
        counts, rows, params, outs: numbers of arrays.
        owned: nobody else needs the rows.

    Returns:
        an array that shows when it is done.
    """
    import jax.numpy as jnp

    from .ray_island import Poison

    if way is not None:
        host.codes[name] = way
    known: Way = host.codes[name]
    try:
        given = host.value(counts), host.value(rows)
        alone = owned and rows not in host._offered
        driver = Waker(host, known, params, alone)
        groups = known.forward.groups(np.asarray(given[0]))
        parts = known.forward.run(driver, groups, given[1])
        # Each handle has an array of its own, since who has the last one to it may give it away.
        made = [jnp.copy(p) if any(p is q for q in parts[:n]) else p for n, p in enumerate(parts)]
    except Exception as error:
        made = [Poison(pack_error(error))] * len(outs)
    finally:
        if owned:
            host.values.pop(rows, None)
    host.values.update(zip(outs, made, strict=True))
    return made[0]
