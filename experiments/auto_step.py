"""`auto`: a run tries both executions at its start, and goes on with the faster.

Both do the same steps of the same run, so that nothing is lost by trying. Which one is faster
depends on the machine and its load: another process may choose otherwise, and differs in rounding.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from .config import Experiment
from .train_state import State, Training

# Steps of each that are not timed, since they compile, and those that are. By pathways programs
# for other numbers of tokens are compiled in later steps too; the median overlooks them.
_WARM = {"fused": 2, "pathways": 4}
_TIMED = 3


@dataclasses.dataclass
class Trial:
    """What is known of an execution.

    Attributes:
        steps: done.
        seconds: of each step that was timed.
    """

    steps: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)


class Chooser:
    """Which execution does the next step: `fused`, then `pathways`, then the faster of the two.

    Examples:
        >>> chooser, found = Chooser({"fused": 1, "pathways": 1}, timed=1), []
        >>> for _ in range(6):
        ...     found.append(chooser.now)
        ...     chooser.saw(0.2 if chooser.now == "fused" else 0.1)
        >>> found
        ['fused', 'fused', 'pathways', 'pathways', 'pathways', 'pathways']
    """

    def __init__(self, warm: dict[str, int] | None = None, timed: int = _TIMED):
        self._warm, self._timed = warm or _WARM, timed
        self.trials = {name: Trial() for name in self._warm}

    @property
    def decided(self) -> bool:
        """Whether both were timed."""
        return all(len(trial.seconds) == self._timed for trial in self.trials.values())

    @property
    def now(self) -> str:
        """The execution of the next step."""
        for name, trial in self.trials.items():
            if len(trial.seconds) < self._timed:
                return name
        return min(self.trials, key=lambda name: statistics.median(self.trials[name].seconds))

    def saw(self, seconds: float) -> None:
        """Takes down how long the step of `now` took."""
        if self.decided:
            return
        name = self.now
        trial = self.trials[name]
        trial.steps += 1
        if trial.steps > self._warm[name]:
            trial.seconds.append(seconds)


def prepare_auto(config: Experiment) -> Training:
    """As `prepare_pathways` and `train_state.prepare`, whichever turns out to be faster.

    The state of its steps is (execution, that one's state).

    Raises:
        ConfigError: as both.
    """
    from .pathways_step import prepare_pathways
    from .train_state import prepare

    both = {"fused": prepare(config), "pathways": prepare_pathways(config)}
    chooser = Chooser()

    def enter(state: State) -> Any:
        name = chooser.now
        return name, both[name].enter(state)

    def canonical(state: Any) -> State:
        name, inner = state
        return both[name].canonical(inner)

    def step(state: Any, batch: dict[str, np.ndarray]) -> tuple[Any, Array]:
        name, inner = state
        if name != chooser.now:
            whole = both[name].canonical(inner)
            name = chooser.now
            inner = both[name].enter(jax.device_put(whole, both[name].home))
        if chooser.decided:
            inner, loss = both[name].step(inner, both[name].put(batch))
            return (name, inner), loss
        jax.block_until_ready(jax.tree.leaves(inner))
        began = time.perf_counter()
        inner, loss = both[name].step(inner, both[name].put(batch))
        jax.block_until_ready((jax.tree.leaves(inner), loss))
        chooser.saw(time.perf_counter() - began)
        return (name, inner), loss

    def read(state: Any) -> tuple[dict[str, Array], Any]:
        name, inner = state
        metrics, inner = both[name].read(inner)
        return metrics, (name, inner)

    return Training(
        task=both["fused"].task,
        start=both["fused"].start,
        step=step,
        put=lambda batch: batch,  # pyright: ignore[reportArgumentType]
        read=read,
        home=both["fused"].home,
        enter=enter,
        canonical=canonical,
        params=lambda state: both[state[0]].params(state[1]),
    )
