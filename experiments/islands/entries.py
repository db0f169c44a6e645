"""Steps that were sent and may not be done yet, or not everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...runtime import Value

if TYPE_CHECKING:
    from .team import Team


@dataclasses.dataclass(eq=False)
class Entry:
    """A step that was sent, or a state that was.

    Attributes:
        number: of the step.
        rows: of each part, and what is known of all of them; empty if it is no step.
        states: of each island, after it.
        marks: of each island a small result of what makes its state, by which it is known to be
            there: of a step the loss.
        loss: once it is known.
    """

    number: int
    rows: Sequence[Any] = ()
    states: dict[str, Any] = dataclasses.field(default_factory=dict)
    marks: dict[str, Value] = dataclasses.field(default_factory=dict)
    loss: np.ndarray | None = None


class StepLoss:
    """The loss of a step, waited for when it is asked for, whatever happens to islands before."""

    def __init__(self, team: Team, entry: Entry):
        self._team, self._entry = team, entry

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self._team.loss_of(self._entry), dtype)
