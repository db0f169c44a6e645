"""Mutual information of experts and labels, beside what shuffled labels would give."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

SHUFFLES = 20


def information(experts: Int[np.ndarray, "P"], labels: Int[np.ndarray, "P"]) -> float:
    """I(expert; label) in nats, the plug-in estimate, over pairs of a token and its expert."""
    table = np.zeros((experts.max() + 1, labels.max() + 1))
    np.add.at(table, (experts, labels), 1)
    joint = table / table.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    some = joint > 0
    return float(np.sum(joint[some] * np.log(joint[some] / apart[some])))


def beside_shuffled(
    experts: Int[np.ndarray, "P"],
    units: Int[np.ndarray, "P"],
    labels: Int[np.ndarray, "U"],
    seed: int = 0,
) -> tuple[float, float]:
    """The information, and its mean after labels changed places among units.

    The second is what the estimate would be without any relation: tokens of one unit have one
    label and similar experts, which a formula for independent tokens does not know.

    Args:
        experts: of each pair.
        units: the unit that each pair belongs to: an example, a place, a token.
        labels: of each unit.
        seed: of the shuffles.

    Examples:
        >>> import numpy as np
        >>> experts = np.array([0, 0, 1, 1] * 50)
        >>> found, chance = beside_shuffled(experts, np.arange(200), experts)
        >>> round(found, 3), chance < 0.02
        (0.693, True)
    """
    draw = np.random.default_rng(seed)
    chance = [information(experts, draw.permutation(labels)[units]) for _ in range(SHUFFLES)]
    return information(experts, labels[units]), float(np.mean(chance))
