"""Values with names: they belong to no client that could leave."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from .attach_errors import NameTaken, NameUnknown
from .controller_programs import taken, unknown
from .values import Value


@dataclasses.dataclass(frozen=True)
class NamedTree:
    """What has a name.

    Attributes:
        tree: its structure, as the client packed it.
        leaves: values and arrays.
    """

    tree: bytes
    leaves: list[Any]

    @property
    def nbytes(self) -> int:
        """Of all its arrays."""
        return sum(int(leaf.dtype.itemsize * _count(leaf.shape)) for leaf in self.leaves)


class NamedValues:
    """Trees by name, held in the name of a client of the runtime that never leaves.

    Attributes:
        keeper: that client.
    """

    def __init__(self, system: Any):
        self.keeper = system.client("named values")
        self._trees: dict[str, NamedTree] = {}
        self._lock = threading.Lock()

    def set(self, name: str, tree: bytes, leaves: list[Any], replace: bool) -> None:
        """Gives a tree a name, when all of its values have been sent.

        Raises:
            NameTaken: another has it, and `replace` is false.
            what a value that has failed raises.
        """
        if not replace and name in self._trees:
            raise NameTaken(taken("value", name))
        for leaf in leaves:
            if isinstance(leaf, Value):
                leaf.finish()
                leaf.array()
        with self._lock:
            if not replace and name in self._trees:
                raise NameTaken(taken("value", name))
            for leaf in leaves:
                if isinstance(leaf, Value):
                    self.keeper.adopt(leaf)
            self._trees[name] = NamedTree(tree, leaves)

    def get(self, name: str) -> NamedTree:
        """Raises NameUnknown if nothing has this name."""
        found = self._trees.get(name)
        if found is None:
            raise NameUnknown(unknown("value", name, self._trees))
        return found

    def delete(self, name: str) -> None:
        """Raises NameUnknown if nothing has this name."""
        self.get(name)
        self._trees.pop(name, None)

    def names(self) -> list[str]:
        """All of them, in the order of the alphabet."""
        return sorted(self._trees)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Arrays and bytes by name."""
        return {
            name: (len(found.leaves), found.nbytes) for name, found in sorted(self._trees.items())
        }


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count
