"""`auto`: a run tries its executions at its start, and goes on with the fastest.

All do the same steps of the same run, so that nothing is lost by trying. Which one is fastest
depends on the machine and its load: another process may choose otherwise, and differs in rounding.
"""

from __future__ import annotations

import time
from typing import Any

import jax
from jaxtyping import Array

from .chooser import Chooser
from .config import Experiment
from .train_state import State, Training

# Steps of the third that are not timed, since they compile.
_WARM_SOME = 4


def prepare_auto(config: Experiment) -> Training:
    """As `train_state.prepare` and `prepare_pathways`, whichever turns out to be faster; where the
    cost model finds that some layers are faster apart and some are not, that is a third to try.

    The state of its steps is an `execution`, and that one's `state`.

    Raises:
        ConfigError: as both.
    """
    from .pathways_step import PathwaysStep
    from .train_state import prepare

    apart = PathwaysStep(config)
    ways = {"fused": prepare(config), "pathways": apart.training()}
    chooser = Chooser()

    def enter(state: State) -> State:
        return made(chooser.now, ways[chooser.now].enter(state))

    def made(name: str, inner: State) -> State:
        return {"execution": name, "state": inner}

    def canonical(state: State) -> State:
        return ways[state["execution"]].canonical(state["state"])

    def step(state: State, batch: dict[str, Any]) -> tuple[State, Array]:
        name, inner = state["execution"], state["state"]
        if name != chooser.now:
            whole = ways[name].canonical(inner)
            name = chooser.now
            inner = ways[name].enter(jax.device_put(whole, ways[name].home))
        if chooser.decided:
            inner, loss = ways[name].step(inner, ways[name].put(batch))
            return made(name, inner), loss
        jax.block_until_ready(jax.tree.leaves(inner))
        began = time.perf_counter()
        inner, loss = ways[name].step(inner, ways[name].put(batch))
        jax.block_until_ready((jax.tree.leaves(inner), loss))
        chooser.saw(time.perf_counter() - began)
        if chooser.decided and len(ways) == 2:
            layers = apart.worth_apart()
            if 0 < len(layers) < len(apart.lowered.switches):
                ways["some layers"] = PathwaysStep(config, only=layers).training()
                chooser.add("some layers", warm=_WARM_SOME)
        return made(name, inner), loss

    def read(state: State) -> tuple[dict[str, Array], State]:
        name = state["execution"]
        metrics, inner = ways[name].read(state["state"])
        return metrics, made(name, inner)

    return Training(
        task=ways["fused"].task,
        start=ways["fused"].start,
        step=step,
        put=lambda batch: batch,  # pyright: ignore[reportArgumentType]
        read=read,
        home=ways["fused"].home,
        enter=enter,
        canonical=canonical,
        params=lambda state: ways[state["execution"]].params(state["state"]),
    )
