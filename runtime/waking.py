"""Which branches of a switch are awake, in which groups they run, and the executables for them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .buckets import Ladder
from .computations import Computation, Executable
from .resources import Slice

# Rows over which the products of a branch take no longer than reading its parameters.
FEW = 32


@dataclasses.dataclass(frozen=True)
class Awake:
    """Some branches on one slice with equal buckets, which share a node.

    Attributes:
        home: number of the slice.
        branches: their numbers.
        bucket: static number of rows that the node takes for each.
        spans: (N, 2) int32, where each one's rows begin and end.
    """

    home: int
    branches: tuple[int, ...]
    bucket: int
    spans: np.ndarray


def node_sizes(bucket: int, together: int) -> tuple[int, ...]:
    """How many branches a node of this bucket may have, the most first."""
    few = (2,) if bucket <= FEW and together > 2 else ()
    return (together, *few, 1) if together > 1 else (1,)


def awake_groups(counts: np.ndarray, ladder: Ladder, homes: int, together: int) -> list[Awake]:
    """Branches that have rows, the longest runs first; branch e is at home on slice e mod P.

    `together` neighbours share a node, and the bucket of the longest, where that pads them by no
    more than a sixteenth beyond their own; the others have a node each. Up to `FEW` rows padding
    costs nothing, since reading the parameters takes longer than the products, and side by side in
    a node each is read by a core: there neighbours share a node whatever their length, and of what
    is left two do. So three sizes of node are compiled for a small bucket, two for others.
    """
    ends = np.cumsum(counts)
    spans = np.stack([ends - counts, ends], axis=1).astype(np.int32)
    sizes = counts.tolist()
    found = []
    for home in range(homes):
        awake = [b for b in range(home, len(sizes), homes) if sizes[b]]
        awake.sort(key=sizes.__getitem__, reverse=True)
        while awake:
            bucket, few = ladder(sizes[awake[0]]), 1
            for count in node_sizes(bucket, together)[:-1]:
                own = sum(ladder(sizes[b]) for b in awake[:count])
                free = bucket <= FEW or 16 * count * bucket <= 17 * own
                if count <= len(awake) and free:
                    few = count
                    break
            part, awake = awake[:few], awake[few:]
            found.append(Awake(home, tuple(part), bucket, spans[part]))
    # Slices take turns, so that none waits for another's nodes to be sent.
    return sorted(found, key=lambda group: group.bucket, reverse=True)


class Executables:
    """Compiled nodes of a switch by what they do, where, and for how many rows and branches.

    Attributes:
        name: in traces.
        slices: P of them.
    """

    def __init__(self, name: str, slices: Sequence[Slice]):
        self.name, self.slices = name, tuple(slices)
        self._found: dict[Any, Executable] = {}
        self._made: dict[Any, Computation] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def known(self, kind: Any, home: int) -> Executable | None:
        """What is compiled already for where the slice stands now."""
        return self._found.get((kind, home, self.slices[home].version))

    def get(
        self,
        kind: Any,
        home: int,
        make: Callable[[], Callable[..., Any]],
        args: Callable[[], tuple[Any, ...]],
        donate: tuple[int, ...],
    ) -> Executable:
        """Compiles once for each kind, slice and version of its mapping.

        Args:
            kind: all that the function and its shapes depend on.
            home: which slice.
            make: the function.
            args: its arguments, as `jax.ShapeDtypeStruct`s or arrays.
            donate: positions of arguments whose buffers it takes over.
        """
        part = self.slices[home]
        key = (kind, home, part.version)
        found = self._found.get(key)
        if found is None:
            with self._lock:
                if key not in self._found:
                    if (kind, home) not in self._made:
                        self._made[kind, home] = Computation(
                            make(), part, name=self.name, donate=donate
                        )
                    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), args())
                    _, made = self._made[kind, home].lower(*given)
                    for old in [old for old in self._found if old[1] == home]:
                        if old[2] < part.version:  # for where the slice stood before
                            del self._found[old]
                    self._found[key] = made
                found = self._found[key]
        return found
