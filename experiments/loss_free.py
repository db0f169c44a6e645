"""Loss-free balancing in the trainer: after each step, the routers' biases move by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from ..models import MoeConfig
from ..routing import RoutingSums, update_bias


def balance_biases(
    before: Any,
    after: Any,
    sums: dict[str, RoutingSums],
    routers: Callable[[str], MoeConfig],
    trained: Any = None,
) -> Any:
    """Parameters with each router's bias moved from where it was before the step.

    The optimiser has no say in it: whatever it did to the biases (weight decay) is undone.

    Args:
        before: the parameters that the step began with.
        after: those that the optimiser made.
        sums: of the whole batch, per sparse block.
        routers: of a block: `bias` is the rule, `bias_rate` the step; `none` changes nothing.
        trained: the whole tree with True for what is trained, whose others stay; None is all.
    """
    moved = {block: sums[block] for block in sums if routers(block).bias != "none"}
    if not moved:
        return after
    old, new = flatten_dict(before), flatten_dict(after)
    moves = flatten_dict(trained) if trained is not None else dict.fromkeys(old, True)
    for block, routed in moved.items():
        config = routers(block)
        # A block's name is a part of the path: of `image/encoderblock_1` both words.
        place = next(
            path
            for path in moves
            if path[-2:] == ("Router", "bias") and set(block.split("/")) <= set(path)
        )
        if not moves[place]:
            continue
        wanted = jnp.sum(routed.assigned, axis=0)
        new[place] = update_bias(old[place], wanted, rate=config.bias_rate, rule=config.bias)  # pyright: ignore
    return unflatten_dict(new)
