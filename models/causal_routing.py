"""Which mixtures may stand in a model of what comes next: those that look at no later token.

A choice by the token's own gates looks at that token alone. What can leak is the competition for
an expert's slots, and none is left without a capacity. With one, tokens that are served in
token order with K=1 are displaced by earlier ones only. All first choices are served
before any second one, so with K>1 a later token's first choice displaces an earlier one's
second; and batch priority lets a later token with a larger gate go first.
"""

from __future__ import annotations

from ..routing import BIASED, NOT_CAUSAL
from .config import MoeConfig


def check_causal(moe: MoeConfig, *, train: bool) -> None:
    """Refuses mixtures through which a token would learn of later ones.

    In training the drops of second and later choices (K>1 with a capacity) are let pass, as in
    GShard: they say that some later token wanted the expert, and no more than that.

    Raises:
        ValueError: the router is not causal; in training, a capacity with batch priority; at
            evaluation, also a capacity with K>1.
    """
    if moe.router in NOT_CAUSAL:
        why = (
            "whether an expert takes a token depends on the tokens after it"
            if moe.router == "expert_choice"
            else "every slot mixes all tokens of the group, later ones among them"
        )
        raise ValueError(
            f"router {moe.router!r} is not causal: {why}, so the model would see what it is to "
            "predict; take a token-choice router, such as 'top_k' or 'switch'"
        )
    field = "capacity_factor" if train else "eval_capacity_factor"
    if getattr(moe, field) is None or moe.router == "random":
        return  # nobody competes; or in an order that is drawn, not made from tokens
    if moe.batch_priority and moe.router in BIASED:  # as in `Moe`, which asks it of no other
        raise ValueError(
            f"batch_priority=True with {field}={getattr(moe, field)} is not causal: a later token "
            "with a larger gate would displace an earlier one; set batch_priority=False (token "
            f"order), or {field}=None (dropless)"
        )
    chosen = moe.chosen if train else moe.eval_chosen
    if not train and chosen > 1:
        raise ValueError(
            f"K={chosen} with {field}={getattr(moe, field)} is not causal: all first choices are "
            "served before any second one, so a later token's first choice would displace an "
            f"earlier one's second; set {field}=None (dropless), or choose one expert"
        )


def check_stepwise(moe: MoeConfig) -> None:
    """Refuses mixtures that would treat a token generated alone unlike one in its sequence.

    Raises:
        ValueError: as `check_causal` at evaluation; evaluation has a capacity; or the router
            draws its choices.
    """
    check_causal(moe, train=False)
    if moe.eval_capacity_factor is not None:
        raise ValueError(
            f"eval_capacity_factor={moe.eval_capacity_factor}: generation is dropless, since the "
            "tokens of a single step compete for other slots than those of a whole sequence "
            "do; set eval_capacity_factor=None"
        )
    if moe.router == "random":
        raise ValueError(
            "router 'random' cannot generate: it draws by the shape of a batch, so a step would "
            "not repeat what it drew for the whole sequence; 'hash' is a blind router that can"
        )
