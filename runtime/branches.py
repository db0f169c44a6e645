"""What a switch's branches own: parameters that are fetched when they wake, sparse gradients."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax

from .errors import ProgramError

if TYPE_CHECKING:
    from .computations import Computation
    from .conditional import Wake
    from .resources import Slice


class Fetched(Protocol):
    """Parameters of branches, wherever they are kept. It is one leaf of a program's arguments."""

    def fetch(self, branches: Sequence[int]) -> Sequence[Any]:
        """The trees of these branches, on the devices where they run."""
        ...


class OnDemand:
    """Parameters that come when their branches wake, and may leave afterwards: for inference."""

    def expect(self, branches: Sequence[int]) -> None:
        """These will be fetched soon, in this order; returns at once."""

    def fetch(self, branches: Sequence[int]) -> Sequence[Any]:
        """As `Fetched`; they stay until `used`. May wait for other programs."""
        raise ProgramError(f"{type(self).__name__} does not say how its branches are fetched")

    def used(self, branches: Sequence[int], out: Any) -> None:
        """A node that makes `out` was sent with these; `out` may be donated after the call."""


class Branches:
    """Parameters of branches that are on their devices: a tree of arrays for each.

    Attributes:
        trees: by the branch's number.
    """

    at_hand = True

    def __init__(self, trees: Sequence[Any] | Mapping[int, Any]):
        self.trees = dict(trees) if isinstance(trees, Mapping) else dict(enumerate(trees))

    def fetch(self, branches: Sequence[int]) -> list[Any]:
        """Raises KeyError if one is not there."""
        trees = self.trees
        return [trees[branch] for branch in branches]

    def __repr__(self) -> str:
        return f"Branches({len(self.trees)})"


class Sparse(dict[int, Any]):
    """A tree of arrays for each branch that was awake; it passes for an array where one waits.

    Attributes:
        slices: where each branch's arrays were made, as far as it is known.
    """

    def __init__(self, trees: Mapping[int, Any] | None = None):
        super().__init__(trees or {})
        self.slices: dict[int, Slice] = {}

    def is_deleted(self) -> bool:
        return any(leaf.is_deleted() for leaf in jax.tree.leaves(dict(self)))

    def is_ready(self) -> bool:
        return all(leaf.is_ready() for leaf in jax.tree.leaves(dict(self)))

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(dict(self)))

    def block_until_ready(self) -> Sparse:
        jax.block_until_ready(jax.tree.leaves(dict(self)))
        return self

    def __repr__(self) -> str:
        return f"Sparse({sorted(self)})"


class Keeps:
    """What a forward pass keeps for its backward.

    Attributes:
        rows: arrays among it that others may read until then, and not write to.
    """

    __slots__ = ()
    rows: Sequence[Any]


class Awaited(abc.ABC):
    """In the place of a `Sparse` until it is known who was awake: on an island, which knows.

    Attributes:
        read: arrays; when they are there, it can be known.
    """

    read: Sequence[Any]

    @abc.abstractmethod
    def known(self) -> Sparse:
        """The gradient; `read` was waited for."""

    @abc.abstractmethod
    def plus(
        self, others: Sequence[Any], wake: Wake, adder: Callable[[Slice], Computation]
    ) -> Awaited | None:
        """The sum of several, before anything of them is known; None if that cannot be.

        Args:
            others: as this.
            wake: of the node that adds.
            adder: the computation that adds leaves of one branch's to another's, on a slice.
        """
