"""The island's side of switches that it expands by itself; what `ray_waking` sends is done here.

The counts are read in process, which waits for them, and whoever is awake runs, by the same code as
from the controller. Each function gives what shows that it is done, and what is told with that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .ray_wire import pack_error
from .switch_training import Kept, Training
from .waking import Awake

if TYPE_CHECKING:
    from .ray_errands import Sender
    from .ray_island import IslandHost


@dataclasses.dataclass(frozen=True)
class Done:
    """What was enqueued.

    Attributes:
        watched: an array, or a list of them, which show that it is done.
        tells: arrays to be told, by number.
        pulled: other islands from which something comes.
    """

    watched: Any
    tells: Sequence[tuple[int, Any]] = ()
    pulled: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Way:
    """What an island must know of a switch.

    Attributes:
        training: the order of nodes, with gradients and, in `training.forward`, without.
        keys: of executables, by (kind, home, bucket, branches).
        spreads: of each home.
        places: the island of each home, as others know it; "" is this one.
    """

    training: Training
    keys: dict[tuple[str, int, int, int], str]
    spreads: tuple[tuple, ...]
    places: tuple[str, ...]


class Waker:
    """A driver of `Forward` and `Training` with arrays and executables at hand."""

    pulled: Sequence[str] = ()

    def __init__(self, host: IslandHost, way: Way, params: list[list[int]]):
        self.host, self.way, self._params = host, way, params
        self._found: dict[int, list[Any]] = {}
        self.owned: list[bool] = []

    def node(self, kind: str, home: int, leaves: list[Any], group: Awake | None = None) -> list:
        key, note = self.key(kind, home, group)
        try:
            return self.host.codes[key].call(*leaves)
        except Exception as error:
            if note:
                error.add_note(note)
            raise

    def key(self, kind: str, home: int, group: Awake | None) -> tuple[str, str]:
        """Of a node's executable; and what is said if it fails."""
        if group is None:
            return self.way.keys[kind, home, 0, 0], ""
        key = self.way.keys[kind, home, group.bucket, len(group.branches)]
        return key, f"of branches {group.branches}, {group.bucket} rows each"

    def move(self, arrays: Sequence[Any], homes: Sequence[int]) -> list[Any]:
        import jax

        return jax.device_put(
            list(arrays), [self.host.sharding(self.way.spreads[h]) for h in homes]
        )

    def owns(self, number: int) -> bool:
        return self.owned[number]

    def expect(self, branches: list[int]) -> None:
        """They are here."""

    def params(self, branches: Sequence[int]) -> list[Any]:
        # Found once: the backward pass takes those that the forward took.
        for branch in branches:
            if branch not in self._found:
                self._found[branch] = [self.host.value(n) for n in self._params[branch]]
        return [leaf for branch in branches for leaf in self._found[branch]]

    def used(self, branches: Sequence[int], out: Any) -> None:
        """They stay."""


@dataclasses.dataclass(frozen=True)
class KeptHere:
    """What the backward pass of one run of a switch needs, under a number."""

    driver: Waker
    kept: Kept

    @property
    def nbytes(self) -> int:
        return self.kept.nbytes


def wake_here(
    host: IslandHost,
    name: str,
    way: Way | None,
    counts: int,
    rows: int,
    owned: bool,
    params: list[list[int]],
    outs: range,
    said: int,
    kept: int | None,
    sender: Sender | None,
) -> Done:
    """A switch forward.

    Args:
        name, way: by which it is known from then on; None if it is.
        counts, rows, params: numbers of arrays.
        owned: nobody else needs the rows.
        outs: numbers of every home's part.
        said: of the counts as they were read, which are told.
        kept: of what the backward pass needs; None if there is none.
        sender: of errands, if some homes are on other islands.
    """
    if way is not None:
        host.codes[name] = way
    known: Way = host.codes[name]
    driver = Waker(host, known, params)
    if sender is not None:
        from .ray_errands import Messenger

        driver = Messenger(host, known, params, sender)

    def run() -> list[Any]:
        given = host.value(counts), host.value(rows)
        driver.owned = _owned(host, [owned], [rows])
        read = host.values[said] = np.array(given[0])
        training = known.training
        groups = training.forward.groups(read)
        if kept is None:
            return training.forward.run(driver, groups, given[1])
        parts, found = training.run(driver, groups, given[1])
        host.values[kept] = KeptHere(driver, found)
        return parts

    made, error = _made(host, run, outs)
    if error is not None:
        host.values.update({n: made[0] for n in (said, kept) if n is not None})
    if owned:
        host.values.pop(rows, None)
    elif sender is not None:
        host._offered.add(rows)
    return Done(made, () if error is not None else [(said, host.values[said])], driver.pulled)


def back_here(
    host: IslandHost, kept: int, grads: list[int], owned: list[bool], outs: range, found: range
) -> Done:
    """The same backward.

    Args:
        kept: number of what the forward kept.
        grads: of the cotangent of each home's part.
        owned: nobody else needs them.
        outs: of the rows' cotangents, as the parts.
        found: of the gradients of all branches' parameters, in order; who slept has none.
    """
    last: list[Any] = []

    def run() -> list[Any]:
        here: KeptHere = host.value(kept)
        driver, training = here.driver, here.driver.way.training
        driver.owned = _owned(host, owned, grads)
        trees, parts = training.back(driver, here.kept, [host.value(n) for n in grads])
        for branch, leaves in trees.items():
            first = found[branch * training.leaves]
            host.values.update(zip(range(first, first + len(leaves)), leaves, strict=True))
            last.extend(leaves[-1:])
        return parts

    made, error = _made(host, run, outs)
    here = host.values.get(kept)
    if error is not None and type(here) is KeptHere:
        each = here.driver.way.training.leaves
        awake = [branch for group in here.kept.groups for branch in group.branches]
        for branch in awake:
            numbers = found[branch * each : (branch + 1) * each]
            host.values.update(dict.fromkeys(numbers, error))
    for number, gone in zip(grads, owned, strict=True):
        if gone:
            host.values.pop(number, None)
    return Done([*made, *last] if error is None else error)


def add_here(
    host: IslandHost, sparse: list[range], leaves: int, keys: list[str], found: range
) -> Done:
    """Adds gradients of branches that several switches share.

    Args:
        sparse: numbers of each one's, as `found` of `back_here`.
        leaves: arrays of a branch's parameters.
        keys: of the executable that adds two branches' arrays, by home.
        found: numbers of the sums.
    """
    ended = []
    for branch in range(len(found) // leaves):
        own = slice(branch * leaves, (branch + 1) * leaves)
        awake = [numbers[own] for numbers in sparse if numbers[own.start] in host.values]
        if not awake:
            continue

        def run(awake: list[range] = awake, branch: int = branch) -> list[Any]:
            whole, *others = [[host.value(n) for n in numbers] for numbers in awake]
            for one in others:
                whole = host.codes[keys[branch % len(keys)]].call(*whole, *one)
            return whole

        made, error = _made(host, run, found[own])
        ended.append(made[0] if error is None else error)
    return Done(ended)


def _owned(host: IslandHost, owned: Sequence[bool], numbers: Sequence[int]) -> list[bool]:
    """What others may still be pulling is not written to."""
    return [own and n not in host._offered for own, n in zip(owned, numbers, strict=True)]


def _made(host: IslandHost, run: Callable[[], list[Any]], outs: range) -> tuple[list[Any], Any]:
    """Arrays under their numbers; where that fails, what is in their place."""
    import jax.numpy as jnp

    from .ray_island import Poison

    error = None
    try:
        parts = run()
        # Each handle has an array of its own, since who has the last one to it may give it away.
        made = [jnp.copy(p) if any(p is q for q in parts[:n]) else p for n, p in enumerate(parts)]
    except Exception as raised:
        error = Poison(pack_error(raised))
        made = [error] * max(1, len(outs))
    host.values.update(zip(outs, made, strict=False))
    return made, error


WAYS = {"forward": wake_here, "backward": back_here, "add": add_here}
