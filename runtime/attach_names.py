"""What outlives its client: values and programs with names."""

from __future__ import annotations

import abc
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

import jax

from .attach_values import AttachedValue, packed_tree, tree_of, wires
from .errors import ProgramError
from .programs import Program

if TYPE_CHECKING:
    from .attach_system import Attached


class _Named(MutableMapping[str, Any]):
    """Names of one kind. Setting one that exists is an error; `replace` is not."""

    kind = ""

    def __init__(self, system: Attached):
        self._system = system

    def __setitem__(self, name: str, what: Any) -> None:
        self._set(name, what, False)

    def replace(self, name: str, what: Any) -> None:
        """Gives it the name, whether or not something has it."""
        self._set(name, what, True)

    def __delitem__(self, name: str) -> None:
        self._system.ask("unname", self.kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._system.ask("named", self.kind))

    def __len__(self) -> int:
        return len(self._system.ask("named", self.kind))

    def __contains__(self, name: object) -> bool:
        return name in self._system.ask("named", self.kind)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self)})"

    @abc.abstractmethod
    def _set(self, name: str, what: Any, replace: bool) -> None:
        """Gives a name.

        Raises:
            NameTaken: something has it, and `replace` is false.
        """


class Names(_Named):
    """Values by name: `names["weights"] = tree`, and `names["weights"]` in any later client.

    A name stands for a tree of futures (of programs, or of `slice.put`) and small arrays. Who takes
    it by name gets the same values; they are freed when the name is deleted or replaced and nobody
    holds them.

    Raises:
        NameTaken, NameUnknown
    """

    kind = "value"

    def __getitem__(self, name: str) -> Any:
        tree, leaves = self._system.ask("take", name)
        values = [
            AttachedValue(self._system, number, jax.ShapeDtypeStruct(shape, dtype))
            for number, shape, dtype in leaves
        ]
        return jax.tree.unflatten(tree_of(tree), values)

    def _set(self, name: str, what: Any, replace: bool) -> None:
        leaves, tree = jax.tree.flatten(what)
        handles, given = wires(self._system, leaves)
        self._system.ask("name", name, packed_tree(tree), handles, given, replace)


class Programs(_Named):
    """Programs by name, with what is compiled of them: `programs["step"] = step`.

    Who takes one gets a `Program` like their own: it can be printed, called in others, and
    differentiated. Without a name a program is known by its code: who makes the same one again, on
    slices like those it was on, compiles nothing either, as long as the controller remembers it.

    Raises:
        NameTaken, NameUnknown
    """

    kind = "program"

    def __getitem__(self, name: str) -> Program:
        return self._system.program(*self._system.ask("code of", name))

    def _set(self, name: str, what: Any, replace: bool) -> None:
        if not isinstance(what, Program):
            raise ProgramError(f"{name!r}: only programs have names here, and {what!r} is none")
        self._system.ask("name program", name, self._system.register(what), replace)
