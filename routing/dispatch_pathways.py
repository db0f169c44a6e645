"""Dropless dispatch that a program can be cut at: the experts are one call with a name.

Compiled as it is, this is `blocked`. Traced, it leaves one equation in the program, a call of
`expert_mlp`, which stands between the sort of the tokens and their return: `models` lowers a
stack by cutting it there, and then runs those experts alone that were chosen. An ordinary
jitted function is the mark, since that differentiates, maps and compiles by itself, where a
primitive of our own would need a rule for each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, Int

from .activations import ACTIVATIONS, ActivationName
from .assignment import Assignment
from .dispatch_blocked import BlockedProducts, block_size, block_sizes
from .experts import ExpertMlp
from .ragged import grouped_mlp
from .rows import rows_to_tokens, sorted_rows, tokens_to_rows

_MARK = "byways_expert_mlp_"


def dispatch_pathways(
    assignment: Assignment, tokens: Float[Array, "G T D"], experts: ExpertMlp
) -> Float[Array, "G T D"]:
    """Sum over a token's kept pairs of weight * expert(token); see `dispatch_index`.

    Takes dropless assignments, and those with a capacity.

    Returns:
        (G, T, D) float32; zero for a token with no kept pair.
    """
    groups, pairs = assignment.token.shape
    unit = block_size(groups * pairs, assignment.num_experts)
    blocks = block_sizes(groups * pairs, assignment.num_experts, unit)
    # The last expert's last block may reach past the end.
    rows = sorted_rows(assignment, extra=blocks[-1])
    values = tokens_to_rows(assignment, rows, tokens)
    out = _expert_mlp(experts.activation, blocks)(values, rows.sizes, *experts.weights)
    return rows_to_tokens(assignment, rows, out)


def marked_activation(name: str) -> ActivationName | None:
    """Of the experts, where this is the name of an `expert_mlp` call in a program; or None.

    Its operands are rows (R, D) sorted by expert, sizes (E,) int32, up (E, D, H), up_bias
    (E, H), down (E, H, D) and down_bias (E, D), of any float types; its result is (R, D) of
    the type of the rows, and what it holds past `sum(sizes)` is finite and never read.
    """
    if not name.startswith(_MARK):
        return None
    found = name.removeprefix(_MARK)
    return next((known for known in ACTIVATIONS if known == found), None)


@functools.cache
def _expert_mlp(activation: ActivationName, blocks: tuple[int, ...]) -> Callable[..., Any]:
    def expert_mlp(
        rows: Float[Array, "R D"], sizes: Int[Array, " E"], up: Array, up_bias, down, down_bias
    ) -> Float[Array, "R D"]:
        experts = ExpertMlp(up, up_bias, down, down_bias, activation)
        return grouped_mlp(BlockedProducts(blocks), rows, sizes, experts)

    expert_mlp.__name__ = expert_mlp.__qualname__ = _MARK + activation
    return jax.jit(expert_mlp)
