"""What a router hands on: the assignment for the dispatcher, and what losses are made of."""

from __future__ import annotations

import dataclasses

import jax

from .assignment import Assignment
from .leaf import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Routing:
    """One call of a router of any kind but the soft one, whose weights are dense.

    Attributes:
        assignment: for the dispatcher.
        logits: (G, T, E) float32, clean router logits; zero at masked tokens, and everywhere
            for routers that have none (hash, random).
        noisy_logits: (G, T, E) float32, what the choice was made on; the same when
            nothing was added.
        probs: (G, T, E) float32, the clean distribution of each token over the experts, rows that
            sum to 1, which importance, entropies and mutual information are about: the softmax of
            the logits; for sigmoid gates those over their sum; for routers without
            knowledge the distribution that they draw from. Means nothing at masked tokens.
        gates: (G, T, E) float32, the same under noise, if there was any.
        mask: (G, T) bool, the tokens that are routed.
        sigma: standard deviation of the noise; 0 when there was none.
        selected: K of token choice; 0 for expert choice, where it differs by token.
        biased: a loss-free bias moved the choice, so that the experts chosen need not be those
            of the K largest noisy logits.
    """

    assignment: Assignment
    logits: Leaf
    noisy_logits: Leaf
    probs: Leaf
    gates: Leaf
    mask: Leaf
    sigma: float = dataclasses.field(metadata={"static": True})
    selected: int = dataclasses.field(metadata={"static": True})
    biased: bool = dataclasses.field(metadata={"static": True}, default=False)
