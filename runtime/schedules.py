"""Orders of a pipeline's work: GPipe (Huang et al. 2019) and 1F1B (Narayanan et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from .errors import ProgramError

Schedule = Literal["gpipe", "1f1b"]


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """One micro-batch at one stage.

    Attributes:
        stage: from 0.
        kind: forward or backward.
        micro: which micro-batch, from 0.
    """

    stage: int
    kind: Literal["forward", "backward"]
    micro: int


def pipeline_actions(
    stages: int, micro_batches: int, schedule: Schedule | str
) -> tuple[Action, ...]:
    """All the work of one step, in one order that respects every dependency.

    Each stage's own order is the schedule's. GPipe: all forwards, then all backwards, so a stage
    holds the inputs of all micro-batches. 1F1B: after a warm-up one forward, one backward, so stage
    s of S never holds more than min(S - s, M). The orders are merged by a clock on which a
    backward takes twice a forward, so that work which is ready early is dispatched early.

    Args:
        stages: S.
        micro_batches: M.
        schedule: `gpipe` or `1f1b`.

    Raises:
        ProgramError: an unknown schedule, or a count below 1.
    """
    if schedule not in ("gpipe", "1f1b"):
        raise ProgramError(f"no schedule {schedule!r}: there are 'gpipe' and '1f1b'")
    if stages < 1 or micro_batches < 1:
        raise ProgramError(
            f"a pipeline of {stages} stages and {micro_batches} micro-batches: each is 1 or more"
        )
    queues = [_of_stage(s, stages, micro_batches, schedule) for s in range(stages)]
    return _merged(queues)


def _of_stage(stage: int, stages: int, micro_batches: int, schedule: str) -> list[Action]:
    forwards = [Action(stage, "forward", m) for m in range(micro_batches)]
    backwards = [Action(stage, "backward", m) for m in range(micro_batches)]
    if schedule == "gpipe":
        return forwards + backwards
    ahead = min(stages - stage, micro_batches)
    queue = forwards[:ahead]
    for micro, backward in enumerate(backwards):
        queue.append(backward)
        queue.extend(forwards[ahead + micro : ahead + micro + 1])
    return queue


def _merged(queues: Sequence[list[Action]]) -> tuple[Action, ...]:
    """One order out of the stages': each begins its next as soon as it is free and can."""
    stages = len(queues)
    done: dict[Action, int] = {}  # when it ends
    free, places = [0] * stages, [0] * stages
    began: list[tuple[int, int, Action]] = []
    while any(place < len(queue) for place, queue in zip(places, queues, strict=True)):
        ready = []
        for stage, queue in enumerate(queues):
            if places[stage] == len(queue):
                continue
            action = queue[places[stage]]
            needs = _needs(action, stages)
            if all(need in done for need in needs):
                start = max([free[stage], *(done[need] for need in needs)])
                ready.append((start, stage, action))
        start, stage, action = min(ready, key=lambda one: one[:2])
        done[action] = free[stage] = start + (1 if action.kind == "forward" else 2)
        places[stage] += 1
        began.append((start, stage, action))
    # Stable: what begins at one moment stays as it was found, which respects the dependencies.
    return tuple(action for _, _, action in sorted(began, key=lambda one: one[0]))


def _needs(action: Action, stages: int) -> list[Action]:
    if action.kind == "forward":
        before = action.stage - 1
        return [Action(before, "forward", action.micro)] if before >= 0 else []
    needs = [Action(action.stage, "forward", action.micro)]
    if action.stage + 1 < stages:
        needs.append(Action(action.stage + 1, "backward", action.micro))
    return needs
