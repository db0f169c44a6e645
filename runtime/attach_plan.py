"""What a program of a client that is attached is lowered to: its own trace, for shapes and errors,
and the controller's program, which does the work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax

from .attach_values import AttachedValue, packed_tree, wires
from .graph import Graph

if TYPE_CHECKING:
    from .attach_system import Attached
    from .programs import Program

_numbers = itertools.count(1)


class AttachedPlan:
    """A program for arguments of one structure and shapes.

    Attributes:
        graph: as it was traced here.
        fresh: always; the controller lowers again by itself.
    """

    fresh = True

    def __init__(self, system: Attached, program: Program, graph: Graph, args: tuple[Any, ...]):
        """Sends the program's code, if the controller does not have it.

        Raises:
            ProgramError: it refers to what cannot travel.
        """
        self.graph, self._system = graph, system
        self._shapes = [graph.shape(ref) for ref in graph.outputs]
        given = {node.index: place for place, node in enumerate(graph.arguments)}
        taken = [node.inputs[place].node for node in graph.nodes for place in node.donated]
        self._donated = [given[index] for index in taken if index in given]
        self._number = next(_numbers)
        key = system.register(program)
        tree = jax.tree.structure(args)
        system.tell("plan", self._number, key, packed_tree(tree), len(self._shapes))

    def start(self, leaves: Sequence[Any]) -> list[AttachedValue]:
        """One message; the results' futures are there at once."""
        system = self._system
        handles, given = wires(system, list(leaves))
        numbers = system.exchange.numbers(len(self._shapes))
        system.exchange.call("call", self._number, handles, given, numbers.start)
        for place in self._donated:
            if isinstance(leaves[place], AttachedValue):
                leaves[place].donated()
        return [AttachedValue(system, n, s) for n, s in zip(numbers, self._shapes, strict=True)]

    def compile(self) -> None:
        """The controller compiles ahead, also what may wake; waits for it."""
        shapes = [node.outputs[0] for node in self.graph.arguments]
        self._system.ask("compile", self._number, [(s.shape, s.dtype) for s in shapes])
