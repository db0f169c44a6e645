"""Which kinds of things an expert takes more often than chance would give it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .tokens import Pairs

# Tokens that a kind is believed to have come from the average besides its own: few tokens prove
# little, and pull towards no preference.
_PRIOR = 50
_LEAST = 1.2
_MOST = 3
# An expert that takes less of a sense than this has no taste in it to speak of.
_SHARE = 0.02


@dataclasses.dataclass(frozen=True)
class Preference:
    """A kind of thing, and how much an expert prefers it.

    Attributes:
        name: of the kind, as people read it.
        lift: how many times as often the expert takes a token of this kind as one of any kind.
    """

    name: str
    lift: float


def preferences(pairs: Pairs, kinds: Sequence[str], experts: int) -> list[tuple[Preference, ...]]:
    """Of each expert the kinds that it prefers most.

    lift = P(expert | kind) / P(expert), where the former is drawn towards P(expert) as by 50 tokens
    more; at least 1.2, or it is left out.

    Args:
        pairs: of one layer, patches or word pieces.
        kinds: of each row of the pairs; empty where it has none.
        experts: E.
    """
    names = sorted(set(kinds) - {""})
    if not names or not len(pairs.expert):
        return [()] * experts
    number = {name: i for i, name in enumerate(names)}
    of_row = np.array([number.get(kind, -1) for kind in kinds])
    kind = of_row[pairs.row]
    known = kind >= 0
    cells = kind[known] * experts + pairs.expert[known]
    table = np.bincount(cells, minlength=len(names) * experts).reshape(len(names), experts)
    total = table.sum(axis=1, keepdims=True)
    share = table.sum(axis=0) / max(1, table.sum())
    drawn = (table + _PRIOR * share) / (total + _PRIOR)
    lift = drawn / np.maximum(share, 1e-12)
    found = []
    for expert in range(experts):
        order = np.argsort(-lift[:, expert], kind="stable")[:_MOST]
        liked = [Preference(names[k], float(lift[k, expert])) for k in order]
        found.append(
            tuple(one for one in liked if one.lift >= _LEAST) if share[expert] >= _SHARE else ()
        )
    return found


def kind_of_thing(group: str, subgroup: str) -> str:
    """The finer of a concept's families, as people read it."""
    return (subgroup or group).replace("-", " ")
