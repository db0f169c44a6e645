"""Who goes where by label: a mergeable table of labels and experts, before and after drops."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from .assignment import Assignment
from .leaf import Leaf
from .tallies import per_token


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Contingency:
    """Counts of pairs by label and expert; states merge by adding their leaves.

    Float32, exact up to 16.7 million pairs of one label and expert. Feed a table of it to
    `mutual_information`, `normalised_information`, `information_bias`.

    Attributes:
        assigned: (N, E), pairs wanted, before drops.
        kept: (N, E), pairs that got a slot, after drops.
        assigned_shuffled, kept_shuffled: (N, E), the same with the labels dealt anew among the
            tokens; zeros unless `shuffled`. Their I is what chance gives.
        shuffled: whether there was a key to shuffle with.
    """

    assigned: Leaf
    kept: Leaf
    assigned_shuffled: Leaf
    kept_shuffled: Leaf
    shuffled: bool = dataclasses.field(metadata={"static": True})

    def merge(self, other: Contingency) -> Contingency:
        """The state of both calls together.

        Raises:
            ValueError: the numbers of labels or experts differ, or only one is shuffled.
        """
        if self.assigned.shape != other.assigned.shape or self.shuffled != other.shuffled:
            raise ValueError(
                f"cannot merge contingencies of shapes {self.assigned.shape} and "
                f"{other.assigned.shape}, shuffled {self.shuffled} and {other.shuffled}: the same "
                "labels and experts, and a key in all calls or in none"
            )
        return jax.tree.map(lambda a, b: a + b, self, other)


def contingency(
    assignment: Assignment,
    labels: Int[Array, "G T"],
    num_labels: int,
    *,
    mask: Bool[Array, "G T"] | None = None,
    key: Key[Array, ""] | None = None,
) -> Contingency:
    """Count which labels go to which experts.

    Args:
        assignment: of any router.
        labels: 0..N-1 of each token: a class, a task, a position, a piece of the vocabulary. Tokens
            with a label outside that range are left out.
        num_labels: N.
        mask: tokens to count; None counts those that have a pair. Matters to the
            baseline of expert choice alone, where a valid token may have no pair.
        key: for the baseline of shuffled labels. Labels are dealt among the counted tokens of
            the call, each token for itself, which also breaks the ties between the tokens
            of one image: a baseline for labels per image is rather too low.

    Raises:
        ValueError: labels or mask of another shape than the assignment's tokens.
    """
    shape = (assignment.token.shape[0], assignment.num_tokens)
    for name, given in (("labels", labels), ("mask", mask)):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} has shape {given.shape}, expected (G, T) = {shape}")
    counted = mask
    if counted is None:
        counted = per_token(assignment, assignment.routed.astype(jnp.float32)) > 0
    counted = counted & (labels >= 0) & (labels < num_labels)
    experts = assignment.expert[..., None] == jnp.arange(assignment.num_experts)

    def count(labels: Int[Array, "G T"]) -> tuple[Array, Array]:
        # -1 is no label.
        labels = jnp.take_along_axis(jnp.where(counted, labels, -1), assignment.token, axis=1)
        member = (labels[..., None] == jnp.arange(num_labels)).astype(jnp.float32)

        def table(which: Bool[Array, "G P"]) -> Float[Array, "N E"]:
            chosen = (which[..., None] & experts).astype(jnp.float32)
            return jnp.einsum("gpn,gpe->ne", member, chosen, precision="highest")

        return table(assignment.routed), table(assignment.kept)

    tables = count(labels)
    shuffled = (jnp.zeros_like(tables[0]), jnp.zeros_like(tables[1]))
    if key is not None:
        shuffled = count(_deal(key, labels, counted))
    return Contingency(*tables, *shuffled, key is not None)


def _deal(
    key: Key[Array, ""], labels: Int[Array, "G T"], counted: Bool[Array, "G T"]
) -> Int[Array, "G T"]:
    """The labels of the counted tokens in a random order among these."""
    flat = counted.reshape(-1)
    # Counted tokens in random order first, then the others; the i-th counted token gets the i-th.
    luck = jax.random.uniform(key, flat.shape) + jnp.where(flat, 0.0, 2.0)
    dealt = labels.reshape(-1)[jnp.argsort(luck)]
    turn = jnp.maximum(jnp.cumsum(flat) - 1, 0)
    return dealt[turn].reshape(labels.shape)
