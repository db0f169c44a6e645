"""Loss-free balancing in the trainer: after each step, the routers' biases move by rule."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ..models import MoeConfig
from ..routing import RoutingSums, update_bias


def balance_biases(before: Any, after: Any, sums: dict[str, RoutingSums], config: MoeConfig) -> Any:
    """Parameters with each router's bias moved from where it was before the step.

    The optimiser has no say in it: whatever it did to the biases (weight decay) is undone.

    Args:
        before: the parameters that the step began with.
        after: those that the optimiser made.
        sums: of the whole batch, per sparse block.
        config: `bias` is the rule, `bias_rate` the step; `none` changes nothing.
    """
    if config.bias == "none":
        return after
    encoder = dict(after["Encoder"])
    for block, routed in sums.items():
        bias = before["Encoder"][block]["Moe"]["Router"]["bias"]
        wanted = jnp.sum(routed.assigned, axis=0)
        moved = update_bias(bias, wanted, rate=config.bias_rate, rule=config.bias)
        moe = encoder[block]["Moe"]
        router = moe["Router"] | {"bias": moved}
        encoder[block] = encoder[block] | {"Moe": moe | {"Router": router}}
    return after | {"Encoder": encoder}
