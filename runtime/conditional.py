"""Nodes that become others when data is known, and what they may do then."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from .backend import LONGEST
from .branches import Awaited, Sparse
from .computations import Executable
from .errors import NodeError
from .graph import Shape
from .resources import Slice
from .telling import Woken

if TYPE_CHECKING:
    from .graph import Node
    from .run import Run
    from .steps import Expansion


@dataclasses.dataclass(frozen=True, eq=False)
class Conditional:
    """What a conditional node is made of.

    Attributes:
        name: for people, errors and traces.
        reads: so many of its first inputs are read by the host before it expands.
        expand: `expand(wake, read, inputs) -> outputs`, as many as the node has; arrays among
            them are on the node's slice.
        backward: for `value_and_grad`: how the node is differentiated; None is not at all.
        compile: compiles all that it may wake.
        ahead: given all inputs, how its island expands it without being waited for, or None where
            it cannot.
    """

    name: str
    reads: int
    expand: Callable[[Wake, list[np.ndarray], list[Any]], Sequence[Any]]
    backward: Differentiable | None = None
    compile: Callable[[], None] | None = None
    ahead: Callable[[list[Any]], Ahead | None] | None = None

    @property
    def donated(self) -> tuple[int, ...]:
        """It takes over nothing for certain; see `Wake.owns`."""
        return ()


@dataclasses.dataclass(frozen=True)
class Given:
    """What a backward node gives an input of its forward.

    Attributes:
        input: position.
        parts: how many outputs make the cotangent, one for each slice of a switch.
        counts: position of the input that tells whose rows are in which part.
    """

    input: int
    parts: int = 1
    counts: int = 0


@dataclasses.dataclass(frozen=True)
class Backward:
    """The backward node of a conditional one.

    Attributes:
        conditional: the node; its inputs are what the forward kept, `takes`, and a cotangent for
            each output of the forward.
        takes: positions of the forward's inputs that it needs.
        outputs: shapes.
        gives: whose cotangents the outputs are, in order.
    """

    conditional: Conditional
    takes: tuple[int, ...]
    outputs: list[Shape]
    gives: tuple[Given, ...]


class Differentiable(Protocol):
    """How `value_and_grad` goes through a conditional node."""

    def forward_keeping(self) -> tuple[Conditional, list[Shape]]:
        """The node that also gives, last and opaque, what its backward needs."""
        ...

    def differentiated(self) -> Backward:
        """The node back."""
        ...


# Sends a conditional node as a whole.
Ahead = Callable[["Wake"], Sequence[Any]]


def expands_itself(run: Run, part: Expansion) -> Ahead | None:
    """How a node's island expands it by itself; None if that is to be done here."""
    conditional, system = part.node.conditional, run.system
    assert conditional is not None
    # Who looks at every node wants to see what is woken.
    careful = system.recorder is not None or system.checks or system.sequential
    if conditional.ahead is None or careful or run._ill or run._stop is not None:
        return None
    return conditional.ahead([run._slots[slot] for slot in part.inputs])


class Wake:
    """How a conditional node sends the nodes that it wakes, in turns of their islands."""

    def __init__(self, run: Run, node: Node, expansion: Expansion, given: Sequence[Any]):
        self.run, self.node, self._expansion = run, node, expansion
        self._told = None if run.system.recorder is None else Woken(self, given)
        self.made = 0
        self._turns = contextlib.ExitStack()
        self._turn: Any = None
        self._island: Any = None
        self._sent = 0

    def __enter__(self) -> Wake:
        return self

    def __exit__(self, *_: Any) -> None:
        self.end_turn()

    def owns(self, position: int) -> bool:
        """Whether this input is used by nobody else, so that its buffer may be donated."""
        slot = self._expansion.inputs[position]
        return position not in self._expansion.lent and self.run.last_use(self._expansion, slot)

    def call(
        self, executable: Executable, inputs: Sequence[Any], part: Slice, name: str
    ) -> list[Any]:
        """Sends one node; its inputs are on its slice. Its outputs are there at once."""
        return self._send(
            executable.call, inputs, part, name, executable.watched, executable.gang, "node"
        )

    def move(self, arrays: Sequence[Any], parts: Sequence[Slice]) -> list[Any]:
        """Arrays on other slices, in one batch."""
        targets = [part.sharding() for part in parts]
        put = parts[0].backend.put
        call = lambda *given: list(put(list(given), targets))  # noqa: E731
        return self._send(call, arrays, parts[0], f"{self.node.name} inputs", 0, False, "transfer")

    def read(self, array: Any) -> np.ndarray:
        """Waits for an array; what was woken so far goes on meanwhile."""
        self.end_turn()
        return self.run.read(array, self.node)

    def known(self, awaited: Awaited) -> Sparse:
        """Waits until it is known whose gradients there are, as `read`."""
        self.end_turn()
        for array in awaited.read:
            self.run.wait(array, self.node.index)
        return awaited.known()

    def fetch(self, bank: Any, branches: Sequence[int]) -> Sequence[Any]:
        """Parameters of branches; others have the island while they are fetched.

        A bank whose `at_hand` is true never waits for anybody, and is asked within the turn.
        """
        if not getattr(bank, "at_hand", False):
            self.end_turn()
        return bank.fetch(branches)

    def end_turn(self) -> None:
        """Lets others have the island."""
        self._turns.close()
        self._turn, self._island, self._sent = None, None, 0

    def _send(
        self,
        call: Callable[..., list[Any]],
        inputs: Sequence[Any],
        part: Slice,
        name: str,
        watched: int,
        gang: bool,
        kind: Any,
    ) -> list[Any]:
        run = self.run
        if part.island is not self._island or self._sent == LONGEST or gang:
            self.end_turn()
            scheduler = run.system.schedulers[part.island.name]
            turn = scheduler.turn(run, None, int(gang), None)
            self._turn, self._island = self._turns.enter_context(turn), part.island
        self._sent += 1
        began = time.perf_counter()
        try:
            outs = call(*inputs)
        except Exception as error:
            raise NodeError(
                str(error), run.plan.graph.name, f"{self.node.name}: {name}", part.island.name
            ) from error
        if outs and watched >= 0:
            self._turn.nodes.append((self.node.index, outs[watched]))
        if self._told is not None:
            self._told.tell(name, kind, part, began, inputs, outs, watched)
        if run.system.checks:
            run.check_finite(self.node.index, outs, name)
        if run.system.sequential:
            jax.block_until_ready(outs)
        self.made += sum(out.nbytes for out in outs)
        return outs
