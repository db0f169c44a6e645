"""What a run tells the recorder, while there is one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .values import Value

if TYPE_CHECKING:
    from .conditional import Wake
    from .graph import Node
    from .resources import Island, Slice
    from .run import Run
    from .spans import SpanKind
    from .steps import Step


def tell_given(run: Run, leaves: Sequence[Any]) -> None:
    """Of arguments that other runs make."""
    recorder = run.system.recorder
    if recorder is None:  # since the caller looked
        return
    for node, leaf in zip(run.plan.graph.arguments, leaves, strict=True):
        if type(leaf) is Value:
            recorder.given(run.number, node.index, leaf.maker)


def tell_step(run: Run, step: Step, outs: Sequence[Any], began: float, island: Island) -> None:
    """Of a node or a batch of copies that was just enqueued."""
    recorder, node = run.system.recorder, run.plan.graph.nodes[step.node]
    if recorder is None:
        return
    # Copies for a node have a key beside the node's, which comes after them.
    copies = -1 - step.node
    recorder.sent(
        **_common(run, node),
        name=f"{node.name} inputs" if step.transfer else node.name,
        kind="transfer" if step.transfer else "node",
        island=island.name,
        devices=step.devices,
        parents=step.parents if step.transfer else (copies, *step.parents),
        key=copies if step.transfer else step.node,
        woken_by=None,
        began=began,
        ended=time.perf_counter(),
        watched=_watched(outs, step.watched),
        made=_bytes(outs),
    )


def tell_read(run: Run, node: Node, began: float) -> None:
    """Of a wait for what a conditional node reads, which has just ended."""
    recorder = run.system.recorder
    if recorder is None:
        return
    assert node.slice is not None
    assert node.conditional is not None
    recorder.sent(
        **_common(run, node),
        name=node.name,
        kind="read",
        island=node.slice.island.name,
        devices=(),
        parents=tuple({ref.node for ref in node.inputs[: node.conditional.reads]}),
        key=node.index,
        woken_by=None,
        began=began,
        ended=time.perf_counter(),
        watched=None,
    )


class Woken:
    """Of what one expansion of a conditional node wakes: who made whose inputs.

    Attributes:
        made_by: key of the maker by `id` of the array, and the array, so that the id stays its own.
    """

    def __init__(self, wake: Wake, given: Sequence[Any]):
        self.wake, self.recorder = wake, wake.run.system.recorder
        self.made_by: dict[int, tuple[int, Any]] = {
            id(array): (ref.node, array) for ref, array in zip(wake.node.inputs, given, strict=True)
        }

    def tell(
        self,
        name: str,
        kind: SpanKind,
        part: Slice,
        began: float,
        inputs: Sequence[Any],
        outs: Sequence[Any],
        watched: int,
    ) -> None:
        """Of a node or a batch of copies that was just enqueued."""
        run, node = self.wake.run, self.wake.node
        key = run.next_key()
        makers = {self.made_by[id(x)][0]: None for x in inputs if id(x) in self.made_by}
        self.recorder.sent(
            **_common(run, node),
            name=name,
            kind=kind,
            island=part.island.name,
            devices=tuple(device.id for device in part.devices),
            parents=tuple(makers),
            key=key,
            woken_by=node.index,
            began=began,
            ended=time.perf_counter(),
            watched=_watched(outs, watched),
            made=_bytes(outs),
        )
        self.made_by.update((id(out), (key, out)) for out in outs)


def _common(run: Run, node: Node) -> dict[str, Any]:
    return {
        "run": run.number,
        "program": run.plan.graph.name,
        "client": run.client.name,
        "node": node.index,
    }


def _watched(outs: Sequence[Any], number: int) -> Any:
    return outs[number] if outs and number >= 0 else None


def _bytes(outs: Sequence[Any]) -> int:
    return sum(out.nbytes for out in outs)
