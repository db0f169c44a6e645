"""The training step over islands, in the shape that the trainer takes."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from ...runtime import fetch
from ..config import Experiment
from ..train_state import State, Training, initial_state
from .gradients_alone import step_in_parts
from .hosts import Islands
from .team import Team

# What stands for the state in the trainer's hands: the islands have it.
_THERE: State = {}


def prepare_islands(config: Experiment, islands: Islands) -> Training:
    """As `train_state.prepare`, over islands; the batch is cut in `config.islands` parts.

    Args:
        config: which `island_problems` finds nothing in.
        islands: at most as many as parts.
    """
    assert config.islands is not None
    parts = step_in_parts(config, config.islands)
    team = islands.team = Team(parts, islands.system, islands.events)
    home = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    names = list(jax.eval_shape(lambda: parts.task.blank(1)))

    def put(batch: dict[str, np.ndarray]) -> Any:
        rows = [
            {name: batch[name][part * parts.rows :][: parts.rows] for name in names}
            for part in range(parts.parts)
        ]
        return rows, fetch(parts.exchange.known(rows))

    def step(state: State, rows: Any) -> tuple[State, Any]:
        return _THERE, team.step(rows)

    pack = jax.jit(parts.state.pack, out_shardings=home)
    unpack = jax.jit(parts.state.unpack, out_shardings=home)

    def enter(state: State) -> State:
        team.begin(pack(state), int(state["step"]))
        return _THERE

    def canonical(state: State) -> State:
        return unpack(jax.device_put(team.state(), home))

    def read(state: State) -> tuple[dict[str, Array], State]:
        return team.read(), _THERE

    return Training(
        task=parts.task,
        start=jax.jit(
            lambda: initial_state(config, parts.task, parts.optimizer), out_shardings=home
        ),
        step=step,
        put=put,
        read=read,
        home=home,
        enter=enter,
        canonical=canonical,
        params=lambda state: canonical(state)["params"],
    )
