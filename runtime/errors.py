"""What can go wrong, each with the node, program and island it concerns."""

from __future__ import annotations


class RuntimeFault(Exception):
    """Any error of the runtime."""


class SliceError(RuntimeFault, ValueError):
    """A slice that its island cannot hold, or that has lost its devices."""


class ProgramError(RuntimeFault, TypeError):
    """A program that cannot be traced: shapes that disagree, a cycle, a value used wrongly."""


class NodeError(RuntimeFault):
    """A node failed; `__cause__` is its own exception.

    Attributes:
        program: the program's name.
        node: the node's name in it.
        island: where it ran.
    """

    def __init__(self, message: str, program: str, node: str, island: str):
        super().__init__(
            f"node {node!r} of program {program!r} on island {island!r} failed: {message}"
        )
        self.program, self.node, self.island = program, node, island

    def __reduce__(self):  # the message is whole already
        given = type(self), self.args[0], self.program, self.node, self.island
        return _remade, given, self.__dict__


def _remade(kind: type[NodeError], message: str, program: str, node: str, island: str):
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.program, error.node, error.island = program, node, island
    return error


class NotFiniteError(NodeError):
    """With checks on, a node returned a NaN or an infinity."""


class IslandLost(RuntimeFault):
    """The island that a value was on, or that a node was to run on, is gone."""


class ValueReleased(RuntimeFault):
    """A value was used after it was released or donated, or its client left."""


class Cancelled(RuntimeFault):
    """The run was cancelled before this value's node was sent."""


class StoreFull(RuntimeFault, MemoryError):
    """A value does not fit the island's memory budget, and waiting cannot help."""


class RunTimeout(RuntimeFault, TimeoutError):
    """A result did not come in the time that was given."""
