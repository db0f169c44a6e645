"""The mergeable state of a routing layer: sums, from which losses and statistics are made."""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .balance import entropy, load_probabilities, squared_cv
from .leaf import Leaf
from .routed import Routing


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RoutingSums:
    """Sums over the valid tokens of a routing call; masked tokens are in none of them.

    Everything is added up, nothing averaged, so two states merge by adding their leaves:
    over the chunks of a batch, its devices, or the batches of an evaluation. The sums that
    losses need carry gradients, so a loss over merged chunks has the gradient of
    the loss over the whole. All float32 (exact for counts up to 16.7 million; convert to float64
    before merging longer evaluations).

    Attributes:
        groups: (), groups with at least one valid token.
        importance: (), sum over those of CV^2 over experts of the summed clean gates.
        load: (), sum over those of CV^2 of the smooth load; 0 unless `stochastic`.
        load_e: (E,), smooth load (expected number of tokens, under fresh noise, that would pick
            the expert); 0 unless `stochastic`.
        z: (), sum of logsumexp(clean logits)^2.
        tokens: (M,), tokens n_m.
        probs: (M, E), sum of clean softmax probabilities.
        entropy: (M,), sum of H(p_i) in nats, clean.
        top_gate: (M,), sum of the largest clean probability.
        assigned: (M, E), pairs wanted, before drops.
        kept: (M, E), pairs that got a slot, after drops.
        processed: (M,), tokens with at least one kept pair.
        stochastic: noise was on, and `load` means something.
        selected: K.
    """

    groups: Leaf
    importance: Leaf
    load: Leaf
    load_e: Leaf
    z: Leaf
    tokens: Leaf
    probs: Leaf
    entropy: Leaf
    top_gate: Leaf
    assigned: Leaf
    kept: Leaf
    processed: Leaf
    stochastic: bool = dataclasses.field(metadata={"static": True})
    selected: int = dataclasses.field(metadata={"static": True})

    def merge(self, other: RoutingSums) -> RoutingSums:
        """The state of both calls together.

        Raises:
            ValueError: one call had router noise and the other had not, or their K differs.
        """
        mine, theirs = (self.stochastic, self.selected), (other.stochastic, other.selected)
        if mine != theirs:
            raise ValueError(
                f"cannot merge routing sums with (stochastic, K) = {mine} and {theirs}: "
                "keep training and evaluation, and layers of different K, apart"
            )
        return jax.tree.map(lambda a, b: a + b, self, other)


def routing_sums(routing: Routing, modality: Int[Array, "G T"], num_modalities: int) -> RoutingSums:
    """Sum up one call of a router.

    Args:
        routing: of any router.
        modality: 0..M-1 for each token (anything where masked).
        num_modalities: M.

    Raises:
        ValueError: `modality` has another shape than the mask.
    """
    mask, logits, pairs = routing.mask, routing.logits, routing.assignment
    if modality.shape != mask.shape:
        raise ValueError(f"modality has shape {modality.shape}, expected (G, T) = {mask.shape}")
    experts = pairs.num_experts
    logsumexp = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    probs = routing.probs

    # Per group, what the balance losses compare between experts.
    occupied = jnp.any(mask, axis=1).astype(jnp.float32)
    valid = mask[..., None].astype(jnp.float32)
    importance = jnp.sum(squared_cv(jnp.sum(probs * valid, axis=1)) * occupied)
    load, load_e = jnp.zeros(()), jnp.zeros((experts,))
    if routing.sigma > 0:
        last = pairs.expert.reshape(*mask.shape, routing.selected)[..., -1]
        wins = load_probabilities(logits, routing.noisy_logits, last, routing.sigma)
        load_g = jnp.sum(wins * valid, axis=1)
        load, load_e = jnp.sum(squared_cv(load_g) * occupied), jnp.sum(load_g, axis=0)

    # Per modality, everything else: the columns of one product with the membership matrix,
    # since many small products cost more than they compute.
    def per_expert(which: Bool[Array, "G P"]) -> Float[Array, "G T E"]:
        chosen = which[..., None] & (pairs.expert[..., None] == jnp.arange(experts))
        return jnp.sum(chosen.reshape(*mask.shape, -1, experts), axis=2, dtype=jnp.float32)

    kept = per_expert(pairs.kept)
    columns = {
        "probs": probs,
        "assigned": per_expert(pairs.routed),
        "kept": kept,
        "entropy": entropy(probs)[..., None],
        "top_gate": jnp.max(probs, axis=-1, keepdims=True),
        "processed": jnp.minimum(jnp.sum(kept, axis=-1, keepdims=True), 1.0),
        "tokens": valid,
        "z": jnp.square(logsumexp),
    }
    member = mask[..., None] & (modality[..., None] == jnp.arange(num_modalities))
    table = jnp.einsum(
        "gtm,gtf->mf",
        member.astype(jnp.float32),
        jnp.concatenate([*columns.values()], axis=-1),
        precision="highest",  # accelerators would round the columns to fewer bits
    )
    ends = list(itertools.accumulate(column.shape[-1] for column in columns.values()))
    total = dict(zip(columns, jnp.split(table, ends[:-1], axis=1), strict=True))
    return RoutingSums(
        groups=jnp.sum(occupied),
        importance=importance,
        load=load,
        load_e=load_e,
        z=jnp.sum(total["z"]),
        tokens=total["tokens"][:, 0],
        probs=total["probs"],
        entropy=total["entropy"][:, 0],
        top_gate=total["top_gate"][:, 0],
        assigned=total["assigned"],
        kept=total["kept"],
        processed=total["processed"][:, 0],
        stochastic=routing.sigma > 0,
        selected=routing.selected,
    )
