"""The table of dispatchers: same Assignment in, same answer out, to rounding."""

from __future__ import annotations

from typing import Literal, Protocol

from jaxtyping import Array, Float

from .assignment import Assignment
from .dispatch_blocked import dispatch_blocked
from .dispatch_einsum import dispatch_einsum
from .dispatch_grouped import dispatch_grouped
from .dispatch_index import dispatch_index
from .experts import ExpertMlp

DispatcherName = Literal["index", "einsum", "blocked", "grouped"]


class Dispatcher(Protocol):
    """Carries tokens to their experts and the weighted results back."""

    def __call__(
        self, assignment: Assignment, tokens: Float[Array, "G T D"], experts: ExpertMlp, /
    ) -> Float[Array, "G T D"]:
        """Sum over a token's kept pairs of weight * expert(token), float32."""
        ...


DISPATCHERS: dict[str, Dispatcher] = {
    "index": dispatch_index,
    "einsum": dispatch_einsum,
    "blocked": dispatch_blocked,
    "grouped": dispatch_grouped,
}


def dispatch(
    name: DispatcherName,
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
) -> Float[Array, "G T D"]:
    """Run a dispatcher by name.

    Returns:
        (G, T, D) float32.

    Raises:
        ValueError: no such dispatcher; the tokens' shape is not the assignment's; or the
            dispatcher does not take dropless assignments.
    """
    if name not in DISPATCHERS:
        raise ValueError(f"dispatcher {name!r} is unknown: expected one of {sorted(DISPATCHERS)}")
    expected = (assignment.token.shape[0], assignment.num_tokens)
    if tokens.shape[:2] != expected:
        raise ValueError(f"tokens have (G, T) = {tokens.shape[:2]}, the assignment {expected}")
    return DISPATCHERS[name](assignment, tokens, experts)
