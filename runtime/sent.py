"""What of a run needs no lock: waiting for what was sent, what has failed, and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .errors import Cancelled, RuntimeFault, RunTimeout, ValueReleased
from .faults import again, bare, blame, check_finite
from .waiting import is_partly_gone, wait_ready

if TYPE_CHECKING:
    from .client import Client
    from .plan import Plan
    from .resources import Island
    from .steps import Segment
    from .system import Runtime


class Sent:
    """The nodes of a run that are on their way.

    Attributes:
        system: the runtime.
        plan: what it follows.
        client: in whose name.
        number: of this run, in traces.
        failed: what nodes raised, by index.
    """

    def __init__(self, system: Runtime, plan: Plan, client: Client):
        self.system, self.plan, self.client = system, plan, client
        self.number = system.next_number()
        self.failed: dict[int, BaseException] = {}
        self._stop: RuntimeFault | None = None

    def check_going(self) -> None:
        """Raises what has stopped this run."""
        if self.client.closed and self._stop is None:
            self._stop = Cancelled(f"{self!r} was cancelled: client {self.client.name!r} left")
        if self._stop is not None:
            raise again(self._stop)

    def wait(self, array: Any, node: int, timeout: float | None = None) -> None:
        """Waits for a result that was sent.

        Raises:
            NodeError: it failed, or what it depends on.
            RunTimeout: it is not there in time.
            ValueReleased: it was donated, or a shard of it.
        """
        limit = self.system.patience if timeout is None else timeout
        try:
            wait_ready(array, limit, lambda: self.node_name(node))
        except RuntimeFault:
            raise
        except Exception as error:
            if is_partly_gone(array):
                raise ValueReleased(f"{self.node_name(node)} made what was donated") from error
            self.system.settle()
            found = blame(self.plan.graph, self.failed, node, error)
            raise again(found) from found.__cause__
        self.system.settle()

    def wait_for(self, array: Any, node: int, patience: float | None) -> None:
        """Waits until something in flight ends, well or not."""
        try:
            wait_ready(array, patience, lambda: self.node_name(node))
        except RunTimeout:
            raise
        except Exception:
            pass  # `look` keeps it, and who asks for the result is told

    def look(self, node: int, array: Any) -> None:
        """Keeps what a node that has ended raised."""
        try:
            array.block_until_ready()
        except Exception as error:
            if not is_partly_gone(array):
                self.failed.setdefault(node, bare(error))

    def check_finite(self, node: int, outs: Sequence[Any], name: str) -> None:
        """Raises NotFiniteError if there is a NaN or an infinity among them."""
        check_finite(self.plan.graph, node, outs, name)

    def lost(self, island: str) -> bool:
        """Whether an island that this was lowered for is gone; one that was started again in its
        place is another.
        """
        found, losses = self.plan.homes[island]
        return found.losses != losses

    def island_of(self, node: int) -> Island | None:
        """Where a node is; None of arguments and constants."""
        part = self.plan.graph.nodes[node].slice
        return None if part is None else part.island

    def island_name(self, node: int) -> str:
        """Its name; "" of arguments and constants."""
        island = self.island_of(node)
        return "" if island is None else island.name

    def segment_name(self, part: Segment) -> str:
        """Of its nodes, for messages."""
        nodes = self.plan.graph.nodes
        first, last = nodes[part.steps[0].node].name, nodes[part.steps[-1].node].name
        return first if len(part.steps) == 1 else f"{first} … {last}"

    def node_name(self, node: int) -> str:
        """For messages."""
        graph = self.plan.graph
        return f"node {graph.nodes[node].name!r} of program {graph.name!r}"

    def __repr__(self) -> str:
        return f"run {self.number} of program {self.plan.graph.name!r}"
