"""The table of dispatchers: same Assignment in, same answer out, to rounding."""

from __future__ import annotations

from typing import Literal, Protocol

from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float

from .assignment import Assignment
from .dispatch_blocked import dispatch_blocked
from .dispatch_einsum import dispatch_einsum
from .dispatch_expert_parallel import dispatch_expert_parallel
from .dispatch_grouped import dispatch_grouped
from .dispatch_index import dispatch_index
from .dispatch_pathways import dispatch_pathways
from .experts import ExpertMlp

DispatcherName = Literal["index", "einsum", "blocked", "grouped", "expert_parallel", "pathways"]


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
    "expert_parallel": dispatch_expert_parallel,
    "pathways": dispatch_pathways,
}

# Those whose buffers are as long as a capacity.
NEED_CAPACITY = ("index", "einsum")


def dispatch(
    name: DispatcherName,
    assignment: Assignment,
    tokens: Float[Array, "G T D"],
    experts: ExpertMlp,
    mesh: Mesh | AbstractMesh | None = None,
) -> Float[Array, "G T D"]:
    """Run a dispatcher by name.

    Args:
        name: one of `DISPATCHERS`.
        assignment: from a router.
        tokens: of any float type, in which the experts compute.
        experts: E of them.
        mesh: for `expert_parallel`, which without it takes the mesh of `jax.set_mesh`.

    Returns:
        (G, T, D) float32.

    Raises:
        ValueError: no such dispatcher; the tokens' shape is not the assignment's; there are
            not E experts; a mesh is given to a dispatcher that runs where its arrays are; or the
            dispatcher does not take dropless assignments.
    """
    if name not in DISPATCHERS:
        raise ValueError(f"dispatcher {name!r} is unknown: expected one of {sorted(DISPATCHERS)}")
    expected = (assignment.token.shape[0], assignment.num_tokens)
    if tokens.shape[:2] != expected:
        raise ValueError(f"tokens have (G, T) = {tokens.shape[:2]}, the assignment {expected}")
    if experts.up.shape[0] != assignment.num_experts:
        raise ValueError(
            f"{experts.up.shape[0]} experts, where the assignment was made for "
            f"num_experts={assignment.num_experts}"
        )
    if name == "expert_parallel":
        return dispatch_expert_parallel(assignment, tokens, experts, mesh=mesh)
    if mesh is not None:
        raise ValueError(
            f"dispatcher {name!r} takes no mesh, it runs where its arrays are: use "
            "'expert_parallel', or leave the mesh out"
        )
    return DISPATCHERS[name](assignment, tokens, experts)
