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
    from .ray_island import IslandHost
    from .ray_messenger import Sender


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
    """A driver of `Forward` and `Training` with arrays and executables at hand.

    Attributes:
        keeps: a further pass, backward, may follow.
        given, owned: the arrays of this pass, and whether they are nobody else's.
        numbers: by island, of the gradients of all branches' parameters there.
        pulled: other islands from which something comes.
    """

    def __init__(self, host: IslandHost, way: Way, params: list[list[int]], keeps: bool):
        self.host, self.way, self._params, self.keeps = host, way, params, keeps
        self._found: dict[int, list[Any]] = {}
        self.given: list[Any] = []
        self.owned: list[bool] = []
        self.numbers: dict[str, range] = {}
        self.pulled: list[str] = []

    def begin(self, numbers: Sequence[int], owned: Sequence[bool]) -> list[Any]:
        """The arrays of a pass."""
        self.given, self.pulled = [self.host.value(n) for n in numbers], []
        # What others may still be pulling is not written to.
        offered = self.host._offered
        self.owned = [own and n not in offered for own, n in zip(owned, numbers, strict=True)]
        return self.given

    def finish(self) -> None:
        """All of a pass is on its way."""
        self.given = []

    def forget(self) -> None:
        """There will be no backward pass."""

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

    def at_home(self, branch: int) -> bool:
        """Whether a branch is on this island."""
        return not self.way.places[branch % len(self.way.places)]


@dataclasses.dataclass(frozen=True)
class KeptHere:
    """What the backward pass of one run of a switch needs, under a number."""

    driver: Waker
    kept: Kept
    read: np.ndarray

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
    tells: bool,
    kept: int | None,
    sender: Sender | None,
) -> Done:
    """A switch forward.

    Args:
        name, way: by which it is known from then on; None if it is.
        counts, rows, params: numbers of arrays.
        owned: nobody else needs the rows.
        outs: numbers of every home's part.
        said: of the counts as they were read.
        tells: these are told.
        kept: of what the backward pass needs; None if there is none.
        sender: of errands, if some homes are on other islands.
    """
    if way is not None:
        host.codes[name] = way
    known: Way = host.codes[name]
    keeps = kept is not None
    driver = Waker(host, known, params, keeps)
    if sender is not None:
        from .ray_messenger import Messenger

        driver = Messenger(host, known, params, keeps, sender)

    def run() -> list[Any]:
        read = host.values[said] = np.array(host.value(counts))
        (given,), training = driver.begin([rows], [owned]), known.training
        groups = training.forward.groups(read)
        if kept is None:
            parts = training.forward.run(driver, groups, given)
        else:
            parts, found = training.run(driver, groups, given)
            host.values[kept] = KeptHere(driver, found, read)
        driver.finish()
        return parts

    made, error = _made(host, run, outs)
    if error is not None:
        host.values.update({n: made[0] for n in (said, kept) if n is not None})
        driver.forget()
    if owned:
        host.values.pop(rows, None)
    elif driver.pulled:
        host._offered.add(rows)
    told = [(said, host.values[said])] if tells and error is None else ()
    return Done(made, told, driver.pulled)


def back_here(
    host: IslandHost,
    kept: int,
    grads: list[int],
    owned: list[bool],
    outs: range,
    found: dict[str, range],
    said: int | None,
) -> Done:
    """The same backward.

    Args:
        kept: number of what the forward kept.
        grads: of the cotangent of each home's part.
        owned: nobody else needs them.
        outs: of the rows' cotangents, as the parts.
        found: by island, "" is this one, of the gradients of all branches' parameters, in order;
            who slept has none.
        said: of the counts, told again if who was awake is to be known only now.
    """
    last: list[Any] = []

    def run() -> list[Any]:
        here: KeptHere = host.value(kept)
        driver, training = here.driver, here.driver.way.training
        driver.numbers, driver.keeps = found, False
        trees, parts = training.back(driver, here.kept, driver.begin(grads, owned))
        driver.finish()
        for branch, leaves in trees.items():
            if driver.at_home(branch):
                first = found[""][branch * training.leaves]
                host.values.update(zip(range(first, first + len(leaves)), leaves, strict=True))
                last.extend(leaves[-1:])
        if said is not None:
            host.values[said] = here.read
        return parts

    made, error = _made(host, run, outs)
    here = host.values.get(kept)
    if error is not None and said is not None:
        host.values[said] = error
    elif error is not None and type(here) is KeptHere:
        each = here.driver.way.training.leaves
        awake = [branch for group in here.kept.groups for branch in group.branches]
        for branch in awake:
            numbers = found[""][branch * each : (branch + 1) * each]
            host.values.update(dict.fromkeys(numbers, error))
    for number, gone in zip(grads, owned, strict=True):
        if gone:
            host.values.pop(number, None)
        elif type(here) is KeptHere and here.driver.pulled:
            host._offered.add(number)
    if error is not None:
        return Done(error)
    pulled = here.driver.pulled if type(here) is KeptHere else ()
    tells = () if said is None else [(said, host.values[said])]
    return Done([*made, *last], tells, pulled)


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
