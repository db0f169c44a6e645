"""`auto`: a run tries both executions at its start, and goes on with the faster.

Both do the same steps of the same run, so that nothing is lost by trying. Which one is faster
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


def prepare_auto(config: Experiment) -> Training:
    """As `prepare_pathways` and `train_state.prepare`, whichever turns out to be faster.

    The state of its steps is an `execution`, and that one's `state`.

    Raises:
        ConfigError: as both.
    """
    from .pathways_step import prepare_pathways
    from .train_state import prepare

    both = {"fused": prepare(config), "pathways": prepare_pathways(config)}
    chooser = Chooser()

    def enter(state: State) -> State:
        return made(chooser.now, both[chooser.now].enter(state))

    def made(name: str, inner: State) -> State:
        return {"execution": name, "state": inner}

    def canonical(state: State) -> State:
        return both[state["execution"]].canonical(state["state"])

    def step(state: State, batch: dict[str, Any]) -> tuple[State, Array]:
        name, inner = state["execution"], state["state"]
        if name != chooser.now:
            whole = both[name].canonical(inner)
            name = chooser.now
            inner = both[name].enter(jax.device_put(whole, both[name].home))
        if chooser.decided:
            inner, loss = both[name].step(inner, both[name].put(batch))
            return made(name, inner), loss
        jax.block_until_ready(jax.tree.leaves(inner))
        began = time.perf_counter()
        inner, loss = both[name].step(inner, both[name].put(batch))
        jax.block_until_ready((jax.tree.leaves(inner), loss))
        chooser.saw(time.perf_counter() - began)
        return made(name, inner), loss

    def read(state: State) -> tuple[dict[str, Array], State]:
        name = state["execution"]
        metrics, inner = both[name].read(state["state"])
        return metrics, made(name, inner)

    return Training(
        task=both["fused"].task,
        start=both["fused"].start,
        step=step,
        put=lambda batch: batch,  # pyright: ignore[reportArgumentType]
        read=read,
        home=both["fused"].home,
        enter=enter,
        canonical=canonical,
        params=lambda state: both[state["execution"]].params(state["state"]),
    )
