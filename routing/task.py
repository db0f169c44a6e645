"""Routing conditioned on a task: an embedding of the task enters the gate.

logits = x W + table[task]. Without the tokens' part, all tokens of a task go to the same K
experts (task-level MoE, Kudugunta et al., arXiv 2110.03742), so that these can be cut out as
a small model that serves the task alone. A task may be anything that is known
beforehand: a data set, a language, a modality.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .capacity import check_selected
from .experts import ExpertMlp
from .leaf import Leaf
from .token_choice import choose


def task_logits(
    table: Float[Array, "N E"],
    task: Int[Array, "G T"],
    token_logits: Float[Array, "G T E"] | None = None,
) -> Float[Array, "G T E"]:
    """Router logits of tokens that belong to tasks, for any token-choice router.

    Args:
        table: learned logits of each of the N tasks.
        task: 0..N-1 of each token (anything where masked).
        token_logits: what the token itself asks for; None routes by task alone.
    """
    # A product with the membership matrix: its transpose is no scatter.
    member = task[..., None] == jnp.arange(table.shape[0])
    rows = jnp.einsum(
        "gtn,ne->gte",
        member.astype(jnp.float32),
        table.astype(jnp.float32),
        precision="highest",
    )
    return rows if token_logits is None else rows + token_logits.astype(jnp.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TaskModel:
    """The K experts of one task, cut out of a layer that routes by task alone.

    Attributes:
        experts: K of them.
        gates: (K,) float32.
        chosen: (K,) int32, their numbers in the whole layer.
    """

    experts: ExpertMlp
    gates: Leaf
    chosen: Leaf

    def __call__(self, tokens: Float[Array, "G T D"]) -> Float[Array, "G T D"]:
        """What the whole layer would give these tokens, dropless; float32."""
        groups, length, width = tokens.shape
        rows = jnp.broadcast_to(
            tokens.reshape(1, -1, width), (self.gates.shape[0], groups * length, width)
        )
        out = self.experts.batched(rows).astype(jnp.float32)
        return jnp.einsum("k,knd->nd", self.gates, out).reshape(tokens.shape)


def cut_out_task(
    experts: ExpertMlp, table: Float[Array, "N E"], task: int, *, selected: int
) -> TaskModel:
    """The small model that serves one task, equal to the whole layer on its tokens.

    Args:
        experts: all E.
        table: (N, E), as of `task_logits` without token logits.
        task: 0..N-1.
        selected: K.

    Raises:
        ValueError: there is no such task, or K is not in 1..E.
    """
    tasks, num_experts = table.shape
    check_selected(selected, num_experts)
    if not 0 <= task < tasks:
        raise ValueError(f"task={task}: expected one of 0..{tasks - 1}")
    gates = jax.nn.softmax(table[task].astype(jnp.float32))
    chosen = choose(gates[None, None], selected)[0, 0]
    return TaskModel(jax.tree.map(lambda leaf: leaf[chosen], experts), gates[chosen], chosen)
